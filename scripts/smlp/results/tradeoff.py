"""Accuracy against speed: each engine a dot, the margin a line, and those that nothing deployable beats joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import pandas

from .columns import rows, unique
from .decision import judgements
from .plots import COLOURS, MARKERS, figure_with, logarithmic_axis
from .throughput import Line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_EDGES = {"fail": "#a61b1b", "undecided": "#b07b00"}


class Dot(NamedTuple):
    """An engine where it is fastest. drop, low, high: points of top-1 lost with 95% interval; 0 of the reference."""

    name: str
    batch: int
    images_per_s: float
    drop: float
    low: float
    high: float
    verdict: str

    @property
    def is_deployable(self) -> bool:
        return self.verdict in ("pass", "reference")


def dots(lines: Sequence[Line], accuracy: pandas.DataFrame) -> list[Dot]:
    """One per line that ran on a real device and whose drop is known, at its batch size of the highest throughput."""
    judged, found = judgements(accuracy), []
    for line in lines:
        rates = {batch: rate for batch, rate in line.images_per_s.items() if batch not in line.doubts}
        if line.published or line.emulated or not rates:
            continue
        batch = max(rates, key=rates.__getitem__)
        row = judged(next(rows(line.rows.loc[[batch]])))
        if row and row.is_reference:
            found.append(Dot(line.name, batch, rates[batch], 0.0, 0.0, 0.0, "reference"))
        elif row and None not in (row.drop_points, row.drop_low_points, row.drop_high_points):
            ends = (row.drop_points, row.drop_low_points, row.drop_high_points)
            found.append(Dot(line.name, batch, rates[batch], *ends, row.verdict or "none"))
    return found


def frontier(found: Sequence[Dot]) -> list[Dot]:
    """The deployable dots that no other deployable one beats in both, the slowest first."""
    possible = [dot for dot in found if dot.is_deployable]
    best = [
        one
        for one in possible
        if not any(
            (other.images_per_s >= one.images_per_s and other.drop <= one.drop)
            and (other.images_per_s, other.drop) != (one.images_per_s, one.drop)
            for other in possible
        )
    ]
    return sorted(best, key=lambda dot: dot.images_per_s)


def plot_tradeoff(columns: Mapping[str, Sequence[Line]], accuracy: pandas.DataFrame) -> Figure:
    """Points of top-1 lost against images/s, one panel per model; filled: may be deployed."""
    from matplotlib.lines import Line2D

    of_models = {model: dots(lines, accuracy) for model, lines in columns.items()}
    of_models = {model: found for model, found in of_models.items() if found}
    names = unique(dot.name for found in of_models.values() for dot in found)
    figure, panels = figure_with(len(of_models), 2, 7, 4.6, sharey=False, otherwise="no engine has a drop to show")
    handles: dict[str, Line2D] = {}
    for axes, (model, found) in zip(panels, of_models.items(), strict=True):
        for dot in found:
            place = names.index(dot.name)
            style = {"color": COLOURS[place % 7], "marker": MARKERS[place % 8], "ls": "", "ms": 8}
            style |= {} if dot.is_deployable else {"mfc": "white", "mec": _EDGES.get(dot.verdict, COLOURS[place % 7])}
            errors = [[max(0.0, dot.drop - dot.low)], [max(0.0, dot.high - dot.drop)]]
            axes.errorbar(dot.images_per_s, dot.drop, yerr=errors, capsize=3, **style)
            label = f"{dot.name}, bs {dot.batch}: {dot.verdict}"
            handles.setdefault(label, Line2D([], [], label=label, **style))
        best = frontier(found)
        axes.plot([dot.images_per_s for dot in best], [dot.drop for dot in best], color="#555555", lw=1, zorder=0)
        for margin in unique(accuracy.loc[accuracy["model"] == model, "margin_points"].dropna()):
            axes.axhline(margin, color="#a61b1b", ls="--", lw=1, zorder=0)
            axes.annotate(
                f"margin {margin:g}", (0.01, margin), xycoords=("axes fraction", "data"), fontsize=8, va="bottom"
            )
        rates = [dot.images_per_s for dot in found]
        logarithmic_axis(axes, min(rates), max(rates), "x")
        axes.set_xlabel("throughput at the best batch size (images/s)")
        axes.set_ylabel("top-1 lost (points)")
        axes.invert_yaxis()  # the best is at the top, to the right
        axes.set_title(model)
    if handles:
        figure.legend(
            handles=list(handles.values()), loc="outside lower center", ncols=2 if len(handles) > 1 else 1, fontsize=9
        )
    return figure
