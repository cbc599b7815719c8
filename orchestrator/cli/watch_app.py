"""The live view of `status --watch`: one table of nodes that is looked at again and again, on a terminal of any size.

A look runs in a thread, and the next begins only when it has ended, so a testnet that answers slowly is asked less often rather than more at once. What
changed since the last look is marked for one look. When a look fails, the last table stays with the reason above it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Footer, Static
from textual.worker import Worker, WorkerState

from orchestrator.cli.tables import duration
from orchestrator.errors import StratosctlError
from orchestrator.testnet.survey import NodeView, Survey

COLUMNS = ("NODE", "ROLE", "WHOSE", "STATE", "HEALTH", "UP", "RESTARTS", "HEIGHT", "ENDPOINT")
_ROOTS = {None: "not compared", True: "equal", False: "DIFFERENT"}
_STATES = {"running": "green", "paused": "yellow", "waiting": "yellow", "failed": "red", "unknown": "red"}


class WatchApp(App[None]):
    """Shows what `look` returns, every `seconds`."""

    CSS = """
    #summary { height: auto; padding: 0 1; }
    #notes { height: auto; padding: 0 1; color: $text-muted; }
    DataTable { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("r", "look", "look now"),
        Binding("p", "problems", "only problems"),
        Binding("o", "ours", "only ours"),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, look: Callable[[], Survey], *, seconds: float) -> None:
        super().__init__()
        self._look_at = look
        self._seconds = seconds
        self._found: Survey | None = None
        self._before: dict[str, NodeView] = {}
        self._only_problems = False
        self._only_ours = False
        self._looking: Worker[Survey] | None = None

    def compose(self) -> ComposeResult:
        """Summary, table, notes, keys."""
        yield Static("looking ...", id="summary")
        yield DataTable(id="nodes", cursor_type="row", zebra_stripes=True)
        yield Static("", id="notes")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        self.query_one(DataTable).add_columns(*COLUMNS)
        self.action_look()
        self.set_interval(self._seconds, self.action_look)

    def action_look(self) -> None:
        """Look now, unless a look is under way."""
        if self._looking is None or self._looking.is_finished:
            self._looking = self._look()

    def action_problems(self) -> None:
        """Show all nodes, or only those that are not well."""
        self._only_problems = not self._only_problems
        self._show()

    def action_ours(self) -> None:
        """Show all nodes, or only those this folder operates."""
        self._only_ours = not self._only_ours
        self._show()

    @work(thread=True, exit_on_error=False)
    def _look(self) -> Survey:
        return self._look_at()

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Take in what a look found."""
        if event.state == WorkerState.SUCCESS and isinstance(event.worker.result, Survey):
            self._before = {node.name: node for node in self._found.nodes} if self._found is not None else {}
            self._found = event.worker.result
            self._show()
        elif event.state == WorkerState.ERROR:
            error = event.worker.error
            reason = str(error) if isinstance(error, StratosctlError) else f"{type(error).__name__}: {error}"
            self.query_one("#summary", Static).update(Text(f"the last look failed: {reason}", style="bold red"))

    def _show(self) -> None:
        found = self._found
        if found is None:
            return
        self.query_one("#summary", Static).update(summary(found))
        table = self.query_one(DataTable)
        row = table.cursor_row
        table.clear()
        for node in shown(found, only_problems=self._only_problems, only_ours=self._only_ours):
            table.add_row(*cells(node, self._before.get(node.name)), key=f"{node.whose}/{node.name}/{node.node}")
        table.move_cursor(row=min(row, max(0, table.row_count - 1)))
        self.query_one("#notes", Static).update("\n".join(found.notes))


def shown(found: Survey, *, only_problems: bool, only_ours: bool) -> list[NodeView]:
    """The nodes to list."""
    return [
        node
        for node in found.nodes
        if not (only_problems and node.health == "ok") and not (only_ours and node.whose != "ours")
    ]


def summary(found: Survey) -> Text:
    """Two lines that say how the testnet is."""
    unwell = sum(node.health != "ok" for node in found.nodes)
    text = Text()
    text.append(f"testnet {found.testnet}: ", style="bold")
    text.append(f"{found.running} of {found.total} nodes run", style="green" if found.running == found.total else "red")
    text.append(f", {unwell} not well\n" if unwell else ", all well\n", style="red" if unwell else "green")
    for layer, height, equal in (
        ("value", found.height, found.state_roots_equal),
        ("meta", found.meta_height, found.meta_state_roots_equal),
    ):
        text.append(f"{layer} layer at height {height}, state roots ")
        text.append(_ROOTS[equal], style="bold red" if equal is False else "")
        text.append("   ")
    return text


def cells(node: NodeView, before: NodeView | None) -> list[Text]:
    """One row; what differs from the look before is bold."""
    up = duration(node.up_seconds) if node.pid else ""
    health = node.health + (f" ({node.last_exit})" if node.last_exit and not node.pid else "")

    def changed(field: str) -> str:
        return "bold" if before is not None and getattr(before, field) != getattr(node, field) else ""

    return [
        Text(node.name),
        Text(node.role),
        Text(node.whose),
        Text(node.state, style=f"{_STATES.get(node.state, '')} {changed('state')}".strip()),
        Text(health, style=f"{'green' if node.health == 'ok' else 'red'} {changed('health')}".strip()),
        Text(up, justify="right"),
        Text(str(node.restarts or ""), style=changed("restarts"), justify="right"),
        Text(str(node.height or ""), style=changed("height"), justify="right"),
        Text(node.endpoint),
    ]
