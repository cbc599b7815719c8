"""Exit codes of every command, as `stratosctl --help` documents them, those above 128 as a shell counts signals."""

from orchestrator.errors import BAD_INPUT, ENVIRONMENT, PARTIAL, VERDICT_FAILED

OK = 0
INTERNAL_ERROR = 70
INTERRUPTED = 130
PIPE_CLOSED = 141
TERMINATED = 143

MEANINGS = {
    OK: "done",
    VERDICT_FAILED: "a verdict failed (audit disagrees, check or test failed)",
    BAD_INPUT: "bad input (option, file, inventory)",
    ENVIRONMENT: "environment (Python, port, disk, unreachable node)",
    PARTIAL: "partly done; run again to continue",
    INTERNAL_ERROR: "a defect in this program",
    INTERRUPTED: "interrupted (Ctrl-C)",
    PIPE_CLOSED: "whoever read the output closed it",
    TERMINATED: "ended by SIGTERM",
}

__all__ = [
    "BAD_INPUT",
    "ENVIRONMENT",
    "INTERNAL_ERROR",
    "INTERRUPTED",
    "MEANINGS",
    "OK",
    "PARTIAL",
    "PIPE_CLOSED",
    "TERMINATED",
    "VERDICT_FAILED",
]
