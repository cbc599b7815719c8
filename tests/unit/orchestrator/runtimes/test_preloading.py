"""What importing the node's code may do, and what it must leave behind."""

import gc
import subprocess
import sys

from orchestrator.runtimes.lean_imports import lean_imports

PRELOAD = """
import sys
started = []
sys.addaudithook(lambda event, _: started.append(event) if event in {"subprocess.Popen", "os.posix_spawn", "os.fork"} else None)
from orchestrator.runtimes.preloading import Preloader
preloader = Preloader("stratos.node")
while preloader.step():
    pass
assert not preloader.error, preloader.error
print(started, sorted({"encodings.idna", "stratos.state.durable"} - set(sys.modules)))
"""


def test_preloading_starts_no_process_and_misses_nothing() -> None:
    """The fork parent imports everything that any node imports when it starts, and runs no other program to do so."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", PRELOAD], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.strip() == "[] []"


DECODERS = """
from orchestrator.runtimes.preloading import Preloader
from stratos.wire.codec import _decoder
preloader = Preloader("stratos.node")
for role in ("validator", "meta", "resource"):
    assert preloader.load(role), preloader.error
    print(role, _decoder.cache_info().currsize > 100, end=" ")
from stratos.wire.block import Block
from stratos.wire.genesis import Genesis
before = _decoder.cache_info().misses
_decoder(Block), _decoder(Genesis)
print(_decoder.cache_info().misses - before, _decoder.cache_info().currsize < _decoder.cache_info().maxsize)
"""


def test_decoders_of_a_role_are_worked_out_before_its_nodes_are_forked() -> None:
    """What a record type looks like is read once by the parent, role by role, and every decoder has its place in the cache."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", DECODERS], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.strip() == "validator True meta True resource True 0 True"


def test_lean_imports_pause_the_collector_and_leave_it_as_it_was() -> None:
    """Inside the block nothing is collected, what was made there is frozen, and after it collecting goes on or not, as before."""
    frozen = gc.get_freeze_count()
    before = gc.isenabled()
    try:
        for collecting in (True, False):
            (gc.enable if collecting else gc.disable)()
            with lean_imports():
                assert not gc.isenabled()
                made: list[object] = [[]]
            assert gc.isenabled() == collecting
            assert gc.get_freeze_count() > frozen
            assert not any(one is made for one in gc.get_objects())
    finally:
        gc.unfreeze()
        (gc.enable if before else gc.disable)()
