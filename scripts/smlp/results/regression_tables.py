"""The comparison of two sweeps for people: a line, tables for Markdown and for the page."""

from __future__ import annotations

from collections.abc import Sequence

from . import gate
from .cells import NONE, Table
from .gate import Speed
from .regressions import AccuracyChange, Comparison, listed, own_verdict

# Of a list, in a table that people read in a pull request.
_MAX_LISTED = 40


def worse(found: Comparison) -> list[str]:
    """Every row that got worse, and how."""
    slower = [f"{one.key} is slower ({_ratio(one.speed)})" for one in found.speeds if one.speed.verdict == "slower"]
    lost = [f"{one.key} is less accurate ({_loss(one)})" for one in found.accuracies if one.verdict == "worse"]
    return [*slower, *lost, *(f"{one} (newly failed)" for one in found.newly_failed)]


def summary(found: Comparison) -> str:
    """One line: what got worse, or that nothing did, and how much of that is known."""
    rows = len(found.speeds) + len(found.accuracies)
    if found.got_worse:
        return f"Worse: {listed(worse(found), _MAX_LISTED)}."
    unknown = sum(one.speed.verdict == "undecided" for one in found.speeds)
    unknown += sum(one.verdict == "undecided" for one in found.accuracies)
    return f"Nothing got worse in {rows} comparisons" + (f"; {unknown} are undecided." if unknown else ".")


def make_tables(found: Comparison) -> list[Table]:
    """Speed, accuracy, and the lists, for Markdown and for the page."""
    tables = []
    if found.speeds:
        tables.append(_speed_table(found))
    if found.accuracies:
        tables.append(_accuracy_table(found))
    lists = {
        "newly failed": found.newly_failed,
        "failed": [text for text in found.failed if text not in found.newly_failed],
        "failed before, works now": found.mended,
        "new": found.new,
        "missing": found.missing,
        **found.changed,
    }
    cells = [[kind, text] for kind, texts in lists.items() for text in _cut(texts)]
    if cells:
        tables.append(Table("What else differs", ["what", "which"], cells, [], left=2))
    return tables


def _cut(texts: Sequence[str]) -> list[str]:
    more = len(texts) - _MAX_LISTED
    return [*texts[:_MAX_LISTED], *([f"and {more} more"] if more > 0 else [])]


def _ratio(speed: Speed) -> str:
    if speed.ratio is None:
        return NONE
    interval = "" if speed.low is None else f" ({speed.low:.3f} to {speed.high:.3f})"
    return f"{speed.ratio:.3f}{interval}"


def _loss(change: AccuracyChange) -> str:
    one = change.accuracy
    if one is None or change.verdict != one.verdict:
        return f"its verdict was {own_verdict(change.base)} and is {own_verdict(change.head)}"
    return f"{one.loss_points:+.2f} points ({one.low_points:+.2f} to {one.high_points:+.2f})"


def _speed_table(found: Comparison) -> Table:
    cells, notes = [], []
    for key, was, now, speed, marks in found.speeds:
        rates = [
            f"{row.figures['images_per_s']:.1f}" if row.figures.get("images_per_s") else NONE for row in (was, now)
        ]
        loads = " / ".join(str(len(row.rates) or NONE) for row in (was, now))
        verdict = speed.verdict + (f": {speed.reason}" if speed.reason else "")
        cells.append([str(key), *rates, _ratio(speed) + marks, loads, verdict])
    header = ["row", "base (images/s)", "head (images/s)", "head / base (95% interval)", "loads", "verdict"]
    limit = 1 - found.margin_percent / 100
    how = "rounds in which both were measured in turn" if found.interleaved else "loads, measured apart"
    notes.append(
        f"ratio: of geometric means over {how}; a t interval on the logarithms. slower: all of it below {limit:.3f}; "
        f"faster: all above {1 / limit:.3f}; same: all between; else undecided."
    )
    judged = [one.speed for one in found.speeds if one.speed.p_slower is not None]
    if judged:
        notes.append(_false_note(judged, found.familywise))
    if any(one.marks for one in found.speeds):
        notes.append("*: a side is unstable; measure again on an idle machine, or both in turn with --remeasure.")
    alike = sorted(
        one.speed.ratio
        for one in found.speeds
        if one.speed.ratio and one.base.figures.get("engine_id") == one.head.figures.get("engine_id") is not None
    )
    if len(alike) > 2 and not found.interleaved:
        notes.append(
            f"engines that did not change ({len(alike)} rows): their median ratio is {alike[len(alike) // 2]:.3f}. If "
            "that is far from 1, the host or a package changed; --remeasure tells."
        )
    return Table("Speed", header, cells, notes, left=1)


def _false_note(judged: Sequence[Speed], familywise: str) -> str:
    """How likely a false `slower` is among these rows, and what was done about it."""
    actual = gate.chance_of_one([one.false_chance for one in judged])
    if familywise == "holm":
        return (
            f"{len(judged)} rows were judged together by Holm's method: the chance of at least one false slower is at "
            f"most {100 * gate.ALPHA:.1f} %."
        )
    most = gate.chance_of_one([gate.ALPHA] * len(judged))
    return (
        f"{len(judged)} rows were judged, each by itself: had each become slower by exactly the margin, the chance of "
        f"at least one false slower would be at most {100 * most:.1f} %; had nothing changed, with these spreads about "
        f"{100 * actual:.2g} %. --familywise holm judges them together."
    )


def _accuracy_table(found: Comparison) -> Table:
    cells = []
    for change in found.accuracies:
        tops = [f"{row.figures['top1']:.2f}" if row.figures.get("top1") is not None else NONE for row in change[1:3]]
        one = change.accuracy
        flips = f"{one.right_to_wrong} / {one.wrong_to_right}" if one else NONE
        p = f"{one.mcnemar_p:.3g}" if one else NONE
        loss = f"{one.loss_points:+.2f} ({one.low_points:+.2f} to {one.high_points:+.2f})" if one else NONE
        verdict = change.verdict + (f": {change.reason}" if change.reason else "")
        if one and change.verdict != one.verdict:
            verdict += f": {_loss(change)}"
        cells.append([str(change.key), *tops, loss, flips, p, verdict])
    header = [
        "row",
        "base top-1 (%)",
        "head top-1 (%)",
        "loss (95% interval, points)",
        "lost / won",
        "McNemar p",
        "verdict",
    ]
    notes = [
        "loss: top-1 of the base minus that of the head on the same images, with Tango's interval; lost / won: images "
        f"that only the base, or only the head, has right. worse: the whole interval is above "
        f"{found.accept_points:g}, or the row's own verdict became fail."
    ]
    return Table("Accuracy", header, cells, notes, left=1)
