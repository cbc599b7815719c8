"""`stratosctl image`: build the node's image, carry it to machines without a registry, check what it is made from."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from orchestrator.cli.exit_codes import OK, VERDICT_FAILED
from orchestrator.cli.parsing import parser, whole_number
from orchestrator.cli.telling import Teller

EXAMPLES = """  stratosctl image build
  stratosctl image build --tag next --sbom sbom.json
  stratosctl image save next -o node.tar.gz        then, where it is needed: stratosctl image load node.tar.gz
  DOCKER_HOST=ssh://root@machine stratosctl image list
"""
ROOT = Path(__file__).resolve().parent.parent.parent


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    commands = {"build": _build, "save": _save, "load": _load, "list": _list, "check": _check}
    return commands[options.action](options)


def _build(options: argparse.Namespace) -> int:
    from orchestrator.image.build import build_image  # after parsing: --help must be quick
    from orchestrator.image.engine import engine
    from orchestrator.image.names import full_name

    image = full_name(options.tag)
    with Teller(wanted=not options.json) as say:
        report = build_image(
            engine(), image=image, base=options.base, rules_up_to=options.rules_up_to, sbom=options.sbom, say=say
        )
    if options.json:
        return _json(report)
    if report.changed:
        print(f"built {report.image} ({report.size_bytes / 1e6:.0f} MB) on {report.base}, version {report.version}")
    else:
        print(f"{report.image} is what the sources are already ({report.size_bytes / 1e6:.0f} MB); nothing changed")
    return OK


def _save(options: argparse.Namespace) -> int:
    from orchestrator.image.carry import save_image
    from orchestrator.image.engine import engine
    from orchestrator.image.names import full_name

    image = full_name(options.tag)
    with Teller(wanted=not options.json) as say:
        size = save_image(engine(), image, options.output, say=say)
    if options.json:
        return _json({"image": image, "file": str(options.output), "size_bytes": size})
    print(f"saved {image} to {options.output} ({size / 1e6:.0f} MB)")
    return OK


def _load(options: argparse.Namespace) -> int:
    from orchestrator.image.carry import load_images
    from orchestrator.image.engine import engine

    with Teller(wanted=not options.json) as say:
        images = load_images(engine(), options.file, say=say)
    if options.json:
        return _json({"file": str(options.file), "images": images})
    print(f"loaded {', '.join(images) or 'an image without a name'}")
    return OK


def _list(options: argparse.Namespace) -> int:
    from orchestrator.cli.tables import aligned
    from orchestrator.image.carry import list_images
    from orchestrator.image.engine import engine

    rows = list_images(engine())
    if options.json:
        return _json(rows)
    table = [("IMAGE", "ID", "SIZE", "CREATED", "VERSION", "RULES", "REVISION")]
    for row in rows:
        short = row.revision[:12] + ("-dirty" if row.revision.endswith("-dirty") else "")
        size = f"{row.size_bytes / 1e6:.0f} MB"
        table.append(
            (row.image, row.image_id.removeprefix("sha256:")[:12], size, row.created, row.version, row.rules, short)
        )
    print(aligned(table) if rows else "the engine holds no image of the node; stratosctl image build makes one")
    return OK


def _check(options: argparse.Namespace) -> int:
    from orchestrator.image.lock import HOW_TO_LOCK, problems_between, problems_of_lock, read_lock

    node = ROOT / "node_image"
    problems = problems_of_lock(node / "requirements.in", node / "requirements.lock")
    problems += problems_between(node / "requirements.lock", ROOT / "requirements.lock")
    count = len(read_lock(node / "requirements.lock"))
    if options.json:
        _json({"ok": not problems, "packages": count, "problems": problems})
    else:
        for problem in problems:
            print(problem)
        print(f"make it again: {HOW_TO_LOCK}" if problems else f"{count} packages are locked, each with its hashes")
    return VERDICT_FAILED if problems else OK


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser(
        "image", "The node's container image: one program, three roles, no network needed.", examples=EXAMPLES
    )
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    one = {
        name: actions.add_parser(name, help=text, description=text, allow_abbrev=False)
        for name, text in _ACTIONS.items()
    }
    build = one["build"]
    build.add_argument("--tag", help="TAG of stratos-node, or NAME:TAG (default: the version of the sources)")
    build.add_argument(
        "--base", metavar="IMAGE", help="Debian image with python3 (default: the official one, or one made here)"
    )
    build.add_argument(
        "--rules-up-to", type=whole_number(1, 1_000), metavar="N", help="know the ledger's rules up to version N only"
    )
    build.add_argument(
        "--sbom", type=Path, metavar="FILE", help="also write the bill of materials (CycloneDX JSON) to FILE"
    )
    one["save"].add_argument("tag", metavar="TAG", help="TAG of stratos-node, or NAME:TAG")
    one["save"].add_argument(
        "-o", "--output", type=Path, required=True, help="file to write; compressed when it ends with .gz"
    )
    one["load"].add_argument("file", type=Path, help="a file that `image save` wrote")
    for each in one.values():
        each.add_argument("--json", action="store_true", help="print one JSON document")
    return command.parse_args(argv)


_ACTIONS = {
    "build": "build the image of these sources; nothing changed is nothing done",
    "save": "write an image to a file, for a machine without a registry",
    "load": "give the engine the image in a file",
    "list": "the node's images that the engine holds",
    "check": "are the locked packages those that the node asks for, and is each hashed? needs no engine",
}


def _json(document: Any) -> int:
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
    return OK
