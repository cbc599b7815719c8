"""One HTML file out of a run's data: inline styles, inline plots, light and dark, readable without a network."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from orchestrator.report import amounts, plots
from orchestrator.report.data import RunData, dump, write_atomically


def write_report(data: RunData, folder: Path, *, name: str = "report") -> Path:
    """Write `<name>.html` and `<name>.json` into `folder`; the path of the page."""
    write_atomically(folder / f"{name}.json", dump(data))
    page = folder / f"{name}.html"
    write_atomically(page, render(data, data_name=f"{name}.json").encode())
    return page


def render(data: RunData, *, data_name: str) -> str:
    """The page as text."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=False
    )
    templates.filters |= {"data_size": amounts.data_size, "money": amounts.money, "grouped": amounts.grouped}
    return templates.get_template("page.html.j2").render(
        run=data,
        tiles=_tiles(data),
        charts=_charts(data),
        flow_bars=_flow_bars(data),
        colours=plots.COLOURS,
        data_name=data_name,
    )


def _tiles(data: RunData) -> list[tuple[str, str]]:
    moved = sum(one.bytes for one in data.operations.values())
    done = sum(one.ok for one in data.operations.values())
    nodes = " + ".join(str(count) for count in data.nodes.values())
    roles = ", ".join(data.nodes)
    return [
        (f"{data.up_seconds:.1f} s", "from command to a working net"),
        (nodes, roles),
        (amounts.grouped(data.height), "blocks"),
        (str(data.epochs_settled), "epochs settled"),
        (amounts.data_size(moved), f"verified in {done} operations"),
        (str(data.hash_mismatches), "wrong bytes"),
        (str(data.copies_min), f"copies at least, {data.slices_challenged} slices challenged"),
    ]


def _charts(data: RunData) -> list[tuple[str, str, str]]:
    return [
        (
            "Throughput",
            "Bytes that arrived and were verified, per second, as the load generator saw them.",
            plots.throughput(data.samples),
        ),
        ("Latency", "One dot per operation, from call to verified result.", plots.latency(data.samples)),
        (
            "Price of ozone",
            "Rises with every prepay, falls with every settled report and every new deposit.",
            plots.ozone_price(data.prices, [flow.height for flow in data.flows]),
        ),
        (
            "Reward per node",
            "Mining by share of traffic (resource) or equally (meta); traffic reward after community tax.",
            plots.reward_per_node(data.rewards),
        ),
    ]


def _flow_bars(data: RunData) -> list[tuple[str, int, list[tuple[str, int, str]]]]:
    resource = sum(flow.resource_wei for flow in data.flows)
    meta = sum(flow.meta_wei for flow in data.flows)
    chain = sum(flow.chain_wei for flow in data.flows)
    tax = sum(flow.tax_wei for flow in data.flows)
    parts = [
        ("resource nodes", resource, plots.COLOURS["resource"]),
        ("meta nodes", meta, plots.COLOURS["meta"]),
        ("validators", chain, plots.COLOURS["validator"]),
        ("community tax", tax, "#8892a0"),
    ]
    total = sum(amount for _, amount, _ in parts)
    return [("Paid in all reported epochs", total, parts)] if total else []
