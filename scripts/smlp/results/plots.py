"""The plots of throughput and latency against batch size."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .columns import PERCENTILES, THROUGHPUT_WAY, unique
from .conditions import MARK
from .plausibility import MARK as DOUBT
from .roofs import Panel
from .sustained_tables import Course
from .throughput import Line, is_unstable, way_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# Okabe and Ito's colours, told apart by people with any colour vision, without the yellow that white paper swallows.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = "osD^vPX*"  # one more than colours: the eighth target repeats neither pair
_PUBLISHED_GREYS = ("#4d4d4d", "#8c8c8c", "#b3b3b3")
_PUBLISHED_MARKERS = "x+1"
_DASHES = ("-", "--", "-.")  # of one target at several batch sizes
_OVER_TIME = {
    "rate": "images/s (% of the start)",
    "temperature_c": "temperature (°C)",
    "clock_mhz": "clock (MHz)",
    "power_w": "power (W)",
}
_ROOFS = {"memory": "-", "products": "--"}


@dataclass(frozen=True)
class Series:
    """One row of the tables over several sweeps. places: which sweeps, by their position on the axis.

    values: images/s or percent, one a place. lows, highs: ends of their 95% intervals, None where there is none.
    """

    name: str
    places: list[int]
    values: list[float]
    lows: list[float | None]
    highs: list[float | None]


class History(NamedTuple):
    """What `plot_history` draws. times: of each sweep. panels: title, unit and the lines of each."""

    times: list[str]
    panels: list[tuple[str, str, list[Series]]]


def render(plot: Callable[[Any], Figure], columns: Any, name: str) -> bytes:
    """The file `name`, .png or .svg: the same bytes for the same columns whatever the user's matplotlib settings."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "svg.hashsalt": f"smlp-sweep {name}",
                "text.parse_math": False,  # a $ in a name is a dollar
                "font.size": 10,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.grid": True,
                "grid.color": "#dddddd",
                "legend.frameon": False,
            }
        )
        target = io.BytesIO()
        kind = Path(name).suffix[1:]
        metadata = {"Date": None} if kind == "svg" else None
        plot(columns).savefig(target, format=kind, dpi=150, metadata=metadata)
    return target.getvalue()


def figure_with(
    panels: int,
    across: int,
    panel_width: float,
    panel_height: float,
    sharey: bool,
    otherwise: str = "nothing was measured",
) -> tuple[Figure, list]:
    """A figure with `panels` axes, `across` per row, and room for a legend below. otherwise: what it says if none."""
    from matplotlib.figure import Figure

    across = max(1, min(across, panels))
    down = max(1, math.ceil(panels / across))
    figure = Figure(figsize=(panel_width * across, panel_height * down + 0.8), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False, sharey=sharey).flat)
    for spare in axes[panels:]:
        spare.remove()
    if not panels:
        axes = [figure.add_subplot()]
        axes[0].set_axis_off()
        axes[0].text(0.5, 0.5, otherwise, ha="center", va="center")
    return figure, axes[:panels]


def _batch_axis(axes: Axes, batches: Iterable[int]) -> None:
    batches = sorted(set(batches))
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.set_xticks([], minor=True)
    axes.set_xlim(batches[0] / 1.25, batches[-1] * 1.25)
    axes.set_xlabel("batch size")


def plot_throughput(columns: dict[str, list[Line]]) -> Figure:
    """Images/s against batch size, one panel per model: one line per target with 95% intervals; published: dashed."""
    from matplotlib.lines import Line2D

    models = [model for model, series in columns.items() if any(one.images_per_s for one in series)]
    targets = unique(one.target for model in models for one in columns[model] if not one.published)
    names = unique(one.name for model in models for one in columns[model] if not one.published)
    quoted = unique(one.name for model in models for one in columns[model] if one.published)
    figure, panels = figure_with(len(models), 2, 7, 4.2, sharey=False)
    unstable_anywhere, marks = False, set()
    handles: dict[str, Line2D] = {}
    for axes, model in zip(panels, models, strict=True):
        for one in columns[model]:
            batches = sorted(one.images_per_s)
            if not batches:
                continue
            values = [one.images_per_s[batch] for batch in batches]
            if one.published:
                place = quoted.index(one.name)
                style = {"color": _PUBLISHED_GREYS[place % 3], "marker": _PUBLISHED_MARKERS[place % 3], "ls": "--"}
            else:
                place = targets.index(one.target)  # the ways of one engine share its colour and marker
                style = {
                    "color": COLOURS[place % 7],
                    "marker": MARKERS[place % 8],
                    "ls": ":" if one.emulated else "-." if one.way == THROUGHPUT_WAY else "-",
                }
            measured = one.rows.reindex(batches)
            below = measured["images_per_s"] - measured["images_per_s_low"]
            above = measured["images_per_s_high"] - measured["images_per_s"]
            errors = [error.clip(lower=0).fillna(0).tolist() for error in (below, above)]
            yerr = errors if any(map(any, errors)) else None
            axes.errorbar(batches, values, yerr=yerr, capsize=3, label=one.name, **style)
            handles.setdefault(one.name, Line2D([], [], label=one.name, **style))
            unstable = measured.index[is_unstable(measured)].tolist()
            if unstable:
                unstable_anywhere = True
                at = [one.images_per_s[batch] for batch in unstable]
                axes.plot(unstable, at, color=style["color"], marker=style["marker"], ls="", mfc="white", zorder=5)
            for batch in sorted((one.marked | one.doubts.keys()) & one.images_per_s.keys()):
                mark = MARK * (batch in one.marked) + DOUBT * (batch in one.doubts)
                marks.add(mark)
                place = (batch, one.images_per_s[batch])
                axes.annotate(mark, place, xytext=(4, 4), textcoords="offset points", color=style["color"])
        _batch_axis(axes, (batch for one in columns[model] for batch in one.images_per_s))
        rates = [rate for one in columns[model] for rate in one.images_per_s.values()]
        if rates and max(rates) > 8 * min(rates):  # a CPU beside an accelerator: from zero, its line would lie flat
            logarithmic_axis(axes, min(rates), max(rates))
        else:
            axes.set_ylim(bottom=0)
        axes.set_ylabel("throughput (images/s)")
        axes.set_title(model)
    entries = [handles[name] for name in (*names, *quoted) if name in handles]
    if unstable_anywhere:
        entries.append(Line2D([], [], color="#555555", marker="o", mfc="white", ls="", label="open marker: unstable"))
    for mark, meaning in ((MARK, "under other conditions"), (DOUBT, "implausible")):
        if mark in "".join(marks):
            entries.append(Line2D([], [], color="#555555", ls="", label=f"{mark}: {meaning}"))
    if entries:
        # a handle of the usual length is too short to tell dashes with dots from a line
        longer = {"handlelength": 3.5} if any(one.way == THROUGHPUT_WAY for one in sum(columns.values(), [])) else {}
        figure.legend(handles=entries, loc="outside lower center", ncols=2 if len(entries) > 1 else 1, **longer)
    return figure


def plot_roofline(columns: dict[str, list[Line]], panels: Sequence[Panel]) -> Figure:
    """Operations a second against operations per byte under the roofs of the device, one panel per model and device.

    Sloping roofs are those of memory, flat ones those of products; engines have the colours of the other plots.
    """
    from matplotlib.lines import Line2D

    figure, all_axes = figure_with(len(panels), 2, 7, 4.6, sharey=False, otherwise="no ceiling is known")
    targets = unique(
        one.target
        for series in columns.values()
        if any(one.images_per_s for one in series)
        for one in series
        if not one.published
    )
    handles: dict[str, Line2D] = {}
    for axes, panel in zip(all_axes, panels, strict=True):
        kinds = sorted({point.kind for point in panel.points}, key=panel.machine.operations_per_s.get)
        peaks = [panel.machine.operations_per_s[kind] for kind in kinds]
        ridges = [max(peaks) / level.bytes_per_s for level in panel.machine.levels]
        xs = [point.x for point in panel.points]
        left, right = min([*xs, *ridges]) / 3, 3 * max([*xs, *ridges])
        ys = [point.y for point in panel.points]
        low, high = min(ys) / 2, 1.5 * max([*ys, *peaks])
        for number, level in enumerate(panel.machine.levels):
            axes.plot([left, ridges[number]], [left * level.bytes_per_s, max(peaks)], color="#555555", lw=1)
            text = f" {level.name}, {level.bytes_per_s / 1e9:.3g} GB/s"
            seen = max(left, low / level.bytes_per_s)  # from where on the roof is in sight
            place = (1.3 * seen, 1.2 * seen * level.bytes_per_s)
            axes.text(*place, text, va="top", fontsize=8, color="#555555", clip_on=True).set_in_layout(False)
        steepest = max((level.bytes_per_s for level in panel.machine.levels), default=None)
        for kind, peak in zip(kinds, peaks, strict=True):
            begin = peak / steepest if steepest else left
            axes.plot([begin, right], [peak, peak], color="#555555", lw=1, ls="--")
            axes.annotate(
                f"{kind}, {peak / 1e12:.3g} Top/s", (right, peak), ha="right", va="bottom", fontsize=8, color="#555555"
            )
        for target, way in unique((point.target, point.way) for point in panel.points):
            own = [point for point in panel.points if (point.target, point.way) == (target, way)]
            place = targets.index(target)
            style = {"color": COLOURS[place % 7], "marker": MARKERS[place % 8]}
            line = {"ls": "-." if way == THROUGHPUT_WAY else "-", "lw": 0.8, "ms": 5}
            possible = [point for point in own if not point.implausible]
            axes.plot([point.x for point in possible], [point.y for point in possible], **style, **line)
            name = way_name(target, way)
            handles.setdefault(name, Line2D([], [], label=name, **style, **line))
            for point in own:
                if point.implausible:
                    axes.plot(point.x, point.y, **style, mfc="white", ls="")
                    text = {"xytext": (4, 4), "textcoords": "offset points", "color": style["color"]}
                    axes.annotate(DOUBT, (point.x, point.y), **text)
        logarithmic_axis(axes, low, high, unit=1e12)
        logarithmic_axis(axes, left, right, "x")
        axes.set_xlabel("operations per byte moved")
        axes.set_ylabel("Top/s")
        about = textwrap.fill(f"{panel.machine.name}, {panel.machine.source}", 70)
        axes.set_title(f"{panel.model}\n{about}", fontsize=10)
    if handles:
        grey = {"color": "#555555", "lw": 1}
        entries = [Line2D([], [], label=f"roof of {what}", ls=ls, **grey) for what, ls in _ROOFS.items()]
        if any(point.implausible for panel in panels for point in panel.points):
            entries.append(Line2D([], [], label=f"{DOUBT}: implausible", ls="", **grey))
        figure.legend(handles=[*handles.values(), *entries], loc="outside lower center", ncols=2)
    return figure


def plot_latency(columns: dict[str, list[Line]]) -> Figure:
    """Latency percentiles of a batch against batch size, one panel per model and target."""
    shown = [
        (model, one) for model, series in columns.items() for one in series if one.images_per_s and not one.published
    ]
    figure, panels = figure_with(len(shown), 3, 4.2, 3.6, sharey=True)
    lows, highs = [], []
    batches = {batch for _, one in shown for batch in one.images_per_s}
    for axes, (model, one) in zip(panels, shown, strict=True):
        for name, colour, marker in zip(PERCENTILES, COLOURS, MARKERS, strict=False):
            points = sorted(one.rows[f"latency_ms_{name}"].dropna().items())
            # Percentiles lie close together: smaller markers for the higher ones keep the lower ones in sight.
            size = 8 - 1.5 * PERCENTILES.index(name)
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, marker=marker, ms=size, lw=1.3, label=name)
            lows += [value for _, value in points]
            highs += [value for _, value in points]
        _batch_axis(axes, batches)
        axes.set_title(f"{model}\n{one.name}", fontsize=10)
    for place, axes in enumerate(panels):
        logarithmic_axis(axes, min(lows), max(highs))
        if place % 3 == 0:
            axes.set_ylabel("latency of a batch (ms)")
    if panels:
        from matplotlib.lines import Line2D

        present = {text for axes in panels for text in axes.get_legend_handles_labels()[1]}
        entries = [
            Line2D([], [], color=colour, marker=marker, label=name)
            for name, colour, marker in zip(PERCENTILES, COLOURS, MARKERS, strict=False)
            if name in present
        ]
        figure.legend(handles=entries, loc="outside lower center", ncols=len(entries))
    return figure


def plot_sustained(columns: dict[str, list[Line]], courses: Mapping[str, Sequence[Course]]) -> Figure:
    """How sustained runs went: one column per model, below each other the rate and what else was told.

    courses: by model. Engines have the colours of the other plots; the rate is a share of that at the start, the
    first minute or half, so that a fall is seen beside engines of any speed.
    """
    from matplotlib.lines import Line2D

    told = [name for name in _OVER_TIME if any(name in one.values for own in courses.values() for one in own)]
    across = max(1, len(courses))
    figure, panels = figure_with(len(told) * len(courses), across, 7, 2.6, False, otherwise="nothing ran for minutes")
    targets = unique(one.target for series in columns.values() for one in series if not one.published)
    handles: dict[str, Line2D] = {}
    for place, axes in enumerate(panels):
        name, (model, own) = told[place // len(courses)], list(courses.items())[place % len(courses)]
        for one in own:
            colour = COLOURS[targets.index(one.target) % 7 if one.target in targets else -1]
            earlier = unique(other.batch for other in own if other.target == one.target)
            style = {"color": colour, "lw": 1.2, "ls": ":" if one.emulated else _DASHES[earlier.index(one.batch) % 3]}
            handles.setdefault(one.name, Line2D([], [], label=one.name, **style))
            if name in one.values:
                marker = {"marker": ".", "ms": 3} if len(one.minutes) <= 60 else {}
                axes.plot(one.minutes, one.values[name], **style, **marker)
        if not axes.get_lines():
            axes.text(0.5, 0.5, "not told", ha="center", va="center", transform=axes.transAxes, color="#555555")
        if name == "rate":
            rates = [100.0, *(rate for one in own for rate in one.values[name].tolist())]
            axes.set_ylim(min(85, min(rates) - 2), max(105, max(rates) + 2))  # else noise would fill the panel
            axes.axhline(100, color="#555555", lw=0.8, zorder=0)
            axes.set_title(model)
        axes.set_ylabel(_OVER_TIME[name])
        axes.set_xlim(left=0)
        if place // len(courses) == len(told) - 1:
            axes.set_xlabel("minutes since the warm-up")
    if handles:
        figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=2 if len(handles) > 1 else 1)
    return figure


def plot_history(history: History) -> Figure:
    """Each panel's series over the sweeps, in the order of their times, with 95% intervals where there are some."""
    figure, panels = figure_with(len(history.panels), 2, 7, 4.2, sharey=False)
    for axes, (title, unit, lines) in zip(panels, history.panels, strict=True):
        for number, line in enumerate(lines):
            below = [value - (value if low is None else min(low, value)) for value, low in zip(line.values, line.lows)]
            above = [
                (value if high is None else max(high, value)) - value for value, high in zip(line.values, line.highs)
            ]
            errors = [below, above] if any(below + above) else None
            style = {"color": COLOURS[number % 7], "marker": MARKERS[number % 8], "lw": 1.3, "ms": 5}
            axes.errorbar(line.places, line.values, yerr=errors, capsize=2, label=line.name, **style)
        values = [value for line in lines for value in line.values if value > 0]
        if unit == "images/s" and max(values) > 8 * min(values):
            logarithmic_axis(axes, min(values), max(values))
        axes.set_xticks(range(len(history.times)), history.times, rotation=45, ha="right", fontsize=8)
        axes.set_xlim(-0.5, len(history.times) - 0.5)
        axes.set_ylabel(unit)
        axes.set_title(title)
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)
    return figure


def logarithmic_axis(axes: Axes, low: float, high: float, which: str = "y", unit: float = 1) -> None:
    """A logarithmic axis whose limits are ticks 1, 2 or 5 times a power of ten, so that some are always in sight.

    unit: the value that reads 1.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    grid = [unit * step * 10.0**power for power in range(-6, 9) for step in (1, 2, 5)]
    below = max((tick for tick in grid if tick <= low), default=grid[0])
    above = min((tick for tick in grid if tick >= high), default=grid[-1])
    axis = getattr(axes, f"{which}axis")
    getattr(axes, f"set_{which}scale")("log")
    getattr(axes, f"set_{which}lim")(below / 1.05, above * 1.05)
    axis.set_major_locator(FixedLocator([tick for tick in grid if below <= tick <= above]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / unit:g}"))
