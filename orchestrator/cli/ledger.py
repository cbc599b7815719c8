"""`stratosctl ledger replay`: a script of messages in, one JSON document with every figure out.

A refused step is an answer, so the exit code is 0; only a script that is not one ends with 2.
"""

import json
import sys
from pathlib import Path

from orchestrator.cli import exit_codes
from orchestrator.cli.parsing import parser
from orchestrator.errors import BadInput

_ABOUT = """\
The ledger as a calculator: what would this testnet pay?

`replay` runs a script of messages against a fresh ledger, in this process, with no network and no consensus,
through the very handlers that the chain runs, and prints what each step did, to the wei."""

_EXAMPLE = """\
  stratosctl ledger replay SCRIPT.json      run a script (- reads standard input)

a script, in full:
  {"params": {"pot": {"community_tax": "0.02"}},
   "genesis": {
     "accounts":       {"alice": "20000000000000000000"},
     "foundation":     "40000000000000000000000000",
     "meta_nodes":     [{"name": "m1", "deposit": "100000000000000000000"}],
     "resource_nodes": [{"name": "r1", "deposit": "1000000000000000000"}]},
   "steps": [
     {"day": 0, "do": "prepay", "from": "alice", "amount": "10000000000000000000"},
     {"do": "volume_report", "epoch": 1, "volumes": {"r1": "500000000"}},
     {"do": "query", "what": "sds/noz_price"}]}

steps:
  money      prepay  send  withdraw  delegate  undelegate
  nodes      create_resource_node  create_meta_node  add_deposit  unbond
  meta nodes vote  kick  kick_vote
  by quorum  volume_report  set_effective_deposit  suspend  unsuspend  slash  leave
  time       end_block, and "day" or "height" in any step
  query      sds/noz_price  sds/noz_supply  sds/sim_prepay/WEI  pot/total_mined_token  pot/circulation_supply
             pot/rewards/wallet/NAME  pot/rewards/epoch/N  pot/slashing/NAME  register/resource_node/NAME
             register/meta_node/NAME  register/remaining_ozone_limit  register/deposit_total
             bank/balances/NAME  bank/supply  state

Amounts are wei (noz for volumes) as strings. Names stand for wallets and nodes; nothing needs to be created first.
Exit codes: 0 the script ran (refused steps say "ok": false), 2 the script is malformed: nothing of it ran."""


def main(argv: list[str]) -> int:
    """Run a script and print its results."""
    options_of = parser("ledger", _ABOUT, examples=_EXAMPLE)
    options_of.add_argument("action", choices=["replay"], metavar="replay", help="run a script of messages")
    options_of.add_argument("script", metavar="SCRIPT.json", help="the script; - reads standard input")
    options_of.add_argument("--json", action="store_true", help="as without: the results are one JSON document")
    options = options_of.parse_args(argv)
    text = _read(options.script)

    from orchestrator.replay.runner import replay  # the ledger and its cryptography: not needed for --help
    from orchestrator.replay.script import parse_script

    print(json.dumps(replay(parse_script(text)), indent=1, ensure_ascii=False))
    return exit_codes.OK


def _read(script: str) -> bytes:
    if script == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(script).read_bytes()
    except OSError as error:
        raise BadInput(
            f"cannot read {script}: {error.strerror}; name a replay script, or - for standard input"
        ) from error
