"""What can go wrong for a user of the network: one sentence each, and the exit code a command line gives it.

Exit codes (documented with the CLI): 1 the verdict is bad (bytes do not match), 2 bad input (wrong handle, no ozone,
unknown file), 3 environment (nodes unreachable, disk full, testnet not running), 4 done only in part.
"""


class ClientError(Exception):
    """An operation that was not done; nothing was charged for what did not arrive."""

    exit_code = 3

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class BadInput(ClientError):
    """The caller asked for something impossible: malformed handle, name, range, size."""

    exit_code = 2


class NotFound(ClientError):
    """No such file, upload or wallet in the network."""

    exit_code = 2


class NotEnoughOzone(ClientError):
    """The wallet's ozone does not cover the transfer; `prepay` buys more."""

    exit_code = 2


class Refused(ClientError):
    """The network refused a request; `code` is its machine-readable reason."""

    exit_code = 2

    def __init__(self, sentence: str, code: str = "refused") -> None:
        super().__init__(sentence)
        self.code = code


class Unreachable(ClientError):
    """No node that could answer did so within the deadline."""

    exit_code = 3


class Environment(ClientError):
    """Something on this machine is missing or full."""

    exit_code = 3


class IntegrityError(ClientError):
    """Bytes from every holder failed verification; none of them were handed out."""

    exit_code = 1
