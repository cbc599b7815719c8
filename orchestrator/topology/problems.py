"""What is wrong with an inventory: every problem at once, each naming host, variable, value and what is allowed."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import BadInput

_HOST = "host "
_HOSTS = "hosts"
_NAMES_SHOWN = 3


class Problem(Struct, frozen=True, kw_only=True):
    """One finding. `value` is text as written; `allowed` says what would be accepted, or what to do."""

    host: str
    variable: str
    value: str
    allowed: str
    origin: str = ""

    def of_a_host(self) -> bool:
        """Whether it is about one host, by something that several hosts may share."""
        return self.host.startswith(_HOST) and self.origin != self.host

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
        hosts: dict[Problem, list[str]] = {}  # one mistake in a group is one line, whatever the number of its hosts
        for problem in unique:
            hosts.setdefault(replace(problem, host=_HOSTS if problem.of_a_host() else problem.host), []).append(
                problem.host.removeprefix(_HOST)
            )
        count = f"{len(hosts)} problem{'s' if len(hosts) != 1 else ''}"
        lines = "".join(
            f"\n  {replace(shared, host=_listed(names) if shared.host == _HOSTS else shared.host).sentence()}"
            for shared, names in hosts.items()
        )
        return cls(f"{source} has {count}; correct the file and run again:{lines}", unique)


def _listed(names: list[str]) -> str:
    """`host a`, `hosts a, b`, `hosts a, b, c and 12 more`."""
    if len(names) == 1:
        return f"host {names[0]}"
    rest = len(names) - _NAMES_SHOWN
    return "hosts " + ", ".join(names[:_NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
