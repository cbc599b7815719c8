"""Errors of the testnet tool: each knows the exit code it ends the command with.

The text is one sentence that names the wrong value and the fix; `cli/main.py` prints it on stderr and nothing else. Library code
raises these (or its own subclasses) and never prints or exits.
"""

VERDICT_FAILED = 1
BAD_INPUT = 2
ENVIRONMENT = 3
PARTIAL = 4


class StratosctlError(Exception):
    """Base of every error that a person should read as a sentence rather than as a traceback."""

    exit_code = ENVIRONMENT


class VerdictFailed(StratosctlError):
    """The command did its work and the answer is no: an audit disagrees, a check or a campaign failed."""

    exit_code = VERDICT_FAILED


class BadInput(StratosctlError):
    """An option, file, inventory or message from the user is wrong; nothing was done."""

    exit_code = BAD_INPUT


class EnvironmentFault(StratosctlError):
    """The machine or the network is not as needed: port taken, disk full, program missing, node unreachable."""

    exit_code = ENVIRONMENT


class PartialFailure(StratosctlError):
    """Some of it was done and some was not; the text says which. Running again continues."""

    exit_code = PARTIAL
