"""Series to inline SVG. matplotlib is imported inside the functions: it costs half a second that only a report pays.

Charts are drawn for a page that may be light or dark: no background, text and axes in `currentColor` through one
placeholder grey, one colour per meaning, the same everywhere (`COLOURS`). Every chart says its unit; a chart without data
says so instead of showing an empty frame.
"""

import io
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from math import ceil, floor, log10
from typing import Any

from orchestrator.report.data import NodeReward, PricePoint, Sample

COLOURS = {
    "upload": "#2f7ed8",
    "download": "#1a9c76",
    "stream": "#c9761d",
    "resource": "#2f7ed8",
    "meta": "#8b62d1",
    "validator": "#1a9c76",
    "price": "#c2477f",
}
_INK = "#818a99"
_GRID = "#8892a044"
_XML_HEAD = re.compile(r"^.*?(?=<svg)", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_FIXED_SIZE = re.compile(r'(<svg[^>]*?) width="[^"]*pt"| height="[^"]*pt"')


def preload() -> None:
    """Import matplotlib now: a caller that waits for something else anyway has the page sooner."""
    import matplotlib.backends.backend_svg
    import matplotlib.figure  # noqa: F401 - imported for its effect


def throughput(samples: Sequence[Sample]) -> str:
    """Verified MiB per second, by kind, in bins of the run's length / 60 (at least 0.5 s)."""
    good = [sample for sample in samples if sample.ok]
    if not good:
        return ""
    end = max(sample.at + sample.seconds for sample in good)
    width = max(0.5, end / 60)
    bins = int(end / width) + 1

    def draw(axes: Any) -> None:
        bottom = [0.0] * bins
        for kind in ("upload", "download", "stream"):
            heights = [0.0] * bins
            for sample in good:
                if sample.kind == kind:
                    _spread(sample, heights, width)
            if any(heights):
                edges = [index * width for index in range(bins)]
                axes.bar(edges, heights, width * 0.92, bottom, align="edge", color=COLOURS[kind], label=f"{kind}s")
                bottom = [low + more for low, more in zip(bottom, heights, strict=True)]
        axes.set_xlabel("seconds")
        axes.set_ylabel("MiB/s, verified")
        axes.legend(loc="upper right", ncols=3, frameon=False)
        axes.set_ylim(0, max(bottom) * 1.2)
        axes.set_xlim(0, end)

    return _chart("throughput", draw)


def latency(samples: Sequence[Sample]) -> str:
    """Every operation as a dot over time, milliseconds on a log scale."""
    if not samples:
        return ""

    def draw(axes: Any) -> None:
        for kind in ("upload", "download", "stream"):
            of_kind = [sample for sample in samples if sample.kind == kind and sample.ok]
            if of_kind:
                at, took = [one.at for one in of_kind], [max(one.seconds, 1e-6) * 1000 for one in of_kind]
                axes.scatter(at, took, s=9, color=COLOURS[kind], alpha=0.65, linewidths=0, label=f"{kind}s")
        failed = [sample for sample in samples if not sample.ok]
        if failed:
            at, took = [one.at for one in failed], [max(one.seconds, 1e-6) * 1000 for one in failed]
            axes.scatter(at, took, s=24, color="#d43c3c", marker="x", label="failed")
        axes.set_yscale("log")
        axes.set_xlabel("seconds")
        axes.set_ylabel("ms per operation")
        axes.legend(loc="upper right", ncols=4, frameon=False)
        low, high = axes.get_ylim()
        # Whole decades, so that at least two labels are on the axis, and room for the legend.
        axes.set_ylim(10 ** floor(log10(low)), 10 ** ceil(log10(high)) * 3)
        axes.yaxis.set_major_formatter(_plain_numbers())
        axes.yaxis.set_minor_formatter(_no_numbers())

    return _chart("latency", draw)


def ozone_price(prices: Sequence[PricePoint], report_heights: Sequence[int]) -> str:
    """Price of ozone over block height, as steps; reports marked. Prepays of the genesis file are where it starts."""
    if not prices:
        return ""
    last_at = {point.height: point for point in prices}
    prices = [last_at[height] for height in sorted(last_at)]

    def draw(axes: Any) -> None:
        heights = [point.height for point in prices]
        values = [float(Fraction(point.price)) for point in prices]
        axes.step(heights, values, where="post", color=COLOURS["price"], linewidth=2)
        at = dict(zip(heights, values, strict=True))
        marked = [height for height in report_heights if height in at]
        if marked:
            axes.plot(
                marked, [at[height] for height in marked], "o", color=COLOURS["price"], ms=5, label="report settled"
            )
            axes.legend(loc="upper right", frameon=False)
        axes.set_xlabel("block height")
        axes.set_ylabel("wei per noz")
        axes.ticklabel_format(axis="y", useOffset=False, style="plain")
        axes.margins(y=0.25)
        axes.yaxis.set_major_formatter(_grouped_numbers(max(values) - min(values)))

    return _chart("price", draw)


def reward_per_node(rewards: Sequence[NodeReward]) -> str:
    """Two panels of bars per node, one unit each: mining in STOS, traffic in the unit that fits."""
    if not rewards:
        return ""
    from orchestrator.report.amounts import money

    top = max(reward.traffic_wei for reward in rewards)
    size, unit = (10**18, "STOS") if top >= 10**18 else (10**15, "mSTOS") if top >= 10**15 else (10**9, "gwei")

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        names = [reward.node for reward in rewards]
        colours = [COLOURS.get(reward.role, _INK) for reward in rewards]
        rows = range(len(rewards))
        for axes, amounts, scale, title in (
            (left, [reward.mining_wei for reward in rewards], 10**18, "mining reward, STOS"),
            (right, [reward.traffic_wei for reward in rewards], size, f"traffic reward, {unit}"),
        ):
            values = [float(Fraction(amount, scale)) for amount in amounts]
            axes.barh(rows, values, 0.72, color=colours)
            for row, (value, amount) in enumerate(zip(values, amounts, strict=True)):
                axes.annotate(
                    money(amount), (value, row), (4, 0), textcoords="offset points", va="center", fontsize=8, color=_INK
                )
            axes.set_title(title, loc="left", fontsize=10, color=_INK)
            axes.set_xlim(0, max(values, default=0) * 1.35 or 1)
            axes.grid(axis="y", visible=False)
        left.set_yticks(rows, names)
        left.invert_yaxis()
        handles = [_swatch(COLOURS[role]) for role in ("resource", "meta", "validator")]
        figure.legend(
            handles,
            ("resource", "meta", "validator"),
            loc="outside upper right",
            ncols=3,
            frameon=False,
            labelcolor=_INK,
        )

    return _figure("rewards", draw, height=max(2.4, 0.9 + 0.27 * len(rewards)))


def _spread(sample: Sample, heights: list[float], width: float) -> None:
    """Add a sample's bytes to the bins it ran through, in proportion."""
    first, last = int(sample.at / width), int((sample.at + sample.seconds) / width)
    rate = sample.bytes / 2**20 / width
    if first == last or sample.seconds <= 0:
        heights[min(first, len(heights) - 1)] += rate
        return
    for index in range(first, min(last, len(heights) - 1) + 1):
        begin, end = max(sample.at, index * width), min(sample.at + sample.seconds, (index + 1) * width)
        heights[index] += rate * max(0.0, end - begin) / sample.seconds


def _chart(name: str, draw: Callable[[Any], None]) -> str:
    def one(figure: Any) -> None:
        draw(figure.subplots())

    return _figure(name, one, height=2.9)


def _figure(name: str, draw: Callable[[Any], None], *, height: float) -> str:
    import matplotlib
    from matplotlib.figure import Figure  # no pyplot: it keeps global state and picks a display

    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.family": "sans-serif",
        "font.size": 10,
        "text.color": _INK,
        "axes.edgecolor": _GRID,
        "axes.labelcolor": _INK,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "grid.color": _GRID,
        "grid.linewidth": 0.7,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "ytick.minor.size": 0,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(9.2, height), layout="constrained")
        draw(figure)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(out.getvalue(), name)


def _inline(svg: str, name: str) -> str:
    """Only the element, sized by the page, text in the page's colour and font, ids unique on the page."""
    svg = _METADATA.sub("", _XML_HEAD.sub("", svg, count=1))
    svg = _FIXED_SIZE.sub(lambda found: found[1] or "", svg, count=2)
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg).replace("'DejaVu Sans'", "inherit")
    svg = re.sub(r"font: ([^;\"]*?)(px|pt)[^;\"]*", r"font-size: \1px", svg).replace(_INK, "currentColor")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    return svg.replace("<svg", f'<svg class="chart" role="img" aria-label="{name}"', 1)


def _plain_numbers() -> Any:
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")


def _no_numbers() -> Any:
    from matplotlib.ticker import NullFormatter

    return NullFormatter()


def _grouped_numbers(spread: float) -> Any:
    from matplotlib.ticker import FuncFormatter

    places = 0 if spread >= 10 or spread == 0 else 1 if spread >= 1 else 3
    return FuncFormatter(lambda value, _: f"{value:,.{places}f}")


def _swatch(colour: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=colour)
