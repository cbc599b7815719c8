"""Exit codes of every command, as `stratosctl --help` documents them."""

from orchestrator.errors import BAD_INPUT, ENVIRONMENT, PARTIAL, VERDICT_FAILED

OK = 0
INTERNAL_ERROR = 70
INTERRUPTED = 130
PIPE_CLOSED = 141

MEANINGS = {
    OK: "done",
    VERDICT_FAILED: "a verdict failed (audit disagrees, check or test failed)",
    BAD_INPUT: "bad input (option, file, inventory)",
    ENVIRONMENT: "environment (Python, port, disk, unreachable node)",
    PARTIAL: "partly done; run again to continue",
    INTERNAL_ERROR: "a defect in this program",
    INTERRUPTED: "interrupted",
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
    "VERDICT_FAILED",
]
