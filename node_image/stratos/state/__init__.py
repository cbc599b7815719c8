"""Key-value state of a replicated machine: overlays, the authenticated map over it, and its durable form.

`branch` is what handlers write to, `table` gives its rooms types, `authmap` turns the whole of it into one root with
inclusion and exclusion proofs, `memory` and `state` hold the committed version, `durable` keeps it across restarts
(loaded on first use: it brings a database, which light programs never touch), `keys` is the text form of a key for
people. Nothing here knows what the values mean.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stratos.state.authmap import EMPTY_ROOT, AuthMap, ProofStep, StateProof, verify_state_proof
from stratos.state.branch import Branch, Reader
from stratos.state.memory import MemoryStore
from stratos.state.state import State, StateError
from stratos.state.table import AmountTable, CounterTable, Table

if TYPE_CHECKING:
    from stratos.state.durable import DurableState
    from stratos.state.keys import KeyTextError, key_from_text, key_to_text

__all__ = [
    "EMPTY_ROOT",
    "AmountTable",
    "AuthMap",
    "Branch",
    "CounterTable",
    "DurableState",
    "KeyTextError",
    "MemoryStore",
    "ProofStep",
    "Reader",
    "State",
    "StateError",
    "StateProof",
    "Table",
    "key_from_text",
    "key_to_text",
    "verify_state_proof",
]


_LAZY = {
    "DurableState": "stratos.state.durable",
    "KeyTextError": "stratos.state.keys",
    "key_from_text": "stratos.state.keys",
    "key_to_text": "stratos.state.keys",
}


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(module), name)
