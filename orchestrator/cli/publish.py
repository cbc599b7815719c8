"""`stratosctl publish`: the public files of a testnet, signed, ready to be served by anything that serves files."""

from __future__ import annotations

import argparse
from pathlib import Path

from orchestrator.cli.exit_codes import OK
from orchestrator.cli.parsing import parser

EXAMPLES = """  stratosctl publish -o public
  stratosctl publish -i inventories/fleet.yml
  ANSIBLE_CONFIG=playbooks/ansible.cfg ansible-playbook -i inventories/fleet.yml playbooks/public.yml

The playbook serves them from the host that stratos_public_host names. Without -o they go to the testnet's folder, where
it looks for them.
"""


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    from orchestrator.publishing.publication import publish  # after parsing: --help must be quick
    from orchestrator.testnet.folder import testnets_root
    from orchestrator.testnet.locate import default_inventory, locate
    from orchestrator.topology.inventory import CACHE_FOLDER, load_inventory

    inventory = options.inventory or default_inventory()
    raw = load_inventory(inventory, cache=testnets_root() / CACHE_FOLDER)
    folder = locate(inventory)
    done = publish(folder, raw, options.output or folder.path / "public")
    if options.json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(done), indent=2).decode())
        return OK
    print(
        f"published {len(done.files)} files of {done.network} in {done.folder}: {', '.join(done.files)}, checksums.json"
    )
    print(f"signed by coordinator {done.coordinator}")
    return OK


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser("publish", "Write what anybody may know of a testnet as signed static files.", examples=EXAMPLES)
    command.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
    command.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="where to write them (default: the testnet's folder, public)"
    )
    command.add_argument("--json", action="store_true", help="print one JSON document")
    return command.parse_args(argv)
