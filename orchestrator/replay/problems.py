"""A script that is not one: refused as a whole, naming where."""

from orchestrator.errors import BadInput


class ScriptProblem(BadInput):
    """The script is malformed; nothing of it was run."""


def at_step(index: int, action: str, field: str, problem: str) -> ScriptProblem:
    """A problem with one field of one step; steps are named by index and by number."""
    shown = f", {action}" if action else ""
    return ScriptProblem(f"steps[{index}].{field} (step {index + 1}{shown}): {problem}")


def at(place: str, problem: str) -> ScriptProblem:
    """A problem outside the steps."""
    return ScriptProblem(f"{place}: {problem}")
