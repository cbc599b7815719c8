"""What is wrong with an inventory: every problem at once, each naming host, variable, value and what is allowed."""

from __future__ import annotations

from msgspec import Struct

from orchestrator.errors import BadInput


class Problem(Struct, frozen=True, kw_only=True):
    """One finding. `value` is text as written; `allowed` says what would be accepted, or what to do."""

    host: str
    variable: str
    value: str
    allowed: str
    origin: str = ""

    def sentence(self) -> str:
        """`host: variable = value (set on origin) is not allowed; allowed: ...`."""
        where = f" (set on {self.origin})" if self.origin and self.origin != f"host {self.host}" else ""
        what = f"{self.variable} = {self.value}" if self.variable else self.value
        return f"{self.host}: {what}{where}; {self.allowed}"


class InvalidInventory(BadInput):
    """The inventory cannot be used; `problems` holds every finding, `sentence` all of them."""

    def __init__(self, text: str, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(text)
        self.problems = problems

    @classmethod
    def of(cls, source: str, problems: list[Problem]) -> InvalidInventory:
        unique = tuple(dict.fromkeys(problems))
        count = f"{len(unique)} problem{'s' if len(unique) != 1 else ''}"
        lines = "".join(f"\n  {problem.sentence()}" for problem in unique)
        return cls(f"{source} has {count}; correct the file and run again:{lines}", unique)
