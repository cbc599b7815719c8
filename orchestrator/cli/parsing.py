"""The argparse parser that every command starts from, so that all help and all refusals read alike.

argparse rather than a richer framework because a command of this tool is often one of many in a script: it costs 13 ms to import
where the alternatives cost 75 and more.
"""

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from orchestrator.cli.exit_codes import BAD_INPUT


class CommandParser(argparse.ArgumentParser):
    """Refuses in one sentence on stderr with exit code 2; options are never guessed from their beginnings."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where to read more, then exit 2."""
        print(f"{self.prog}: {message}; see {self.prog} --help", file=sys.stderr)
        sys.exit(BAD_INPUT)


def parser(command: str, description: str, *, examples: str = "") -> CommandParser:
    """A parser for `stratosctl COMMAND`; `examples` are printed as they are after the options."""
    return CommandParser(
        prog=f"stratosctl {command}",
        description=description,
        epilog=f"examples:\n{examples.rstrip()}" if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def whole_number(lowest: int, highest: int) -> Callable[[str], int]:
    """An argparse type: a plain decimal integer between two bounds, both allowed."""

    def convert(text: str) -> int:
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdecimal() and len(digits) <= 40) or not lowest <= int(text) <= highest:
            raise argparse.ArgumentTypeError(f"{text[:50]!r} is not a whole number from {lowest} to {highest}")
        return int(text)

    return convert
