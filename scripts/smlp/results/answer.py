"""The answer that a sweep gives, in words: what to deploy on each device, and what keeps that from being certain."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas

from .cells import EMULATED_MARK
from .columns import THROUGHPUT_WAY, rows, unique
from .decision import fastest, judgements
from .reader import Record, Target
from .statistics import images_to_decide
from .throughput import device_of, is_imported, loads_of

# What the command that runs an engine needs of the one that measured it.
_KEPT = ("--model", "--backend", "--batchsize", "--device", "--threads", "--env", "--input")
_RERUN = "snakemake --cores all --forcerun"
_SHOWN = 3  # rows that a doubt names; the tables have the others


class Doubt(NamedTuple):
    """What keeps an answer from being certain. command: mends it, if a command can."""

    text: str
    command: str = ""


class Answer(NamedTuple):
    """Of one model on one device. lines: sentences; command: runs what the first of them names; doubts: the worst
    first."""

    title: str
    lines: list[str]
    command: str
    doubts: list[Doubt]


def make_answers(
    model: str,
    decisions: Sequence[pandas.DataFrame],
    throughput: pandas.DataFrame,
    accuracy: pandas.DataFrame,
    reference: Target,
    records: Iterable[Record],
) -> list[Answer]:
    """One answer per device of the model; one for all if no row ran on any.

    decisions: what `make_decision` found, without a limit on latency and, if there is one, within it. throughput,
    accuracy: the whole tables. records: the files of the former.
    """
    known = _Known(
        model,
        str(reference),
        list(rows(throughput[throughput["model"] == model])),
        list(rows(accuracy[accuracy["model"] == model])),
        judgements(accuracy),
        {(*record.target, record.batch, record.way): record for record in records if record.model == model},
    )
    devices = unique(decisions[-1]["device"])
    if not devices:
        return [
            Answer(model, ["Nothing to deploy: no row could be measured"], "", _OfDevice(known, known.measured).rows())
        ]
    found = []
    for device in devices:
        # what failed before it ran anywhere has no device
        own = [row for row in known.measured if row.failed or str(device_of(row.device, row.cpu_model)) == device]
        within, free = (table[table["device"] == device] for table in (decisions[-1], decisions[0]))
        found.append(_OfDevice(known, own, within, free).answer(device))
    return found


class _Known(NamedTuple):
    """Of one model: the rows of both tables, what judges a row of throughput, and its file by target, batch and way."""

    model: str
    reference: str
    measured: list[Any]
    judged: list[Any]
    judgement: Callable[[Any], Any | None]
    files: dict[tuple, Record]

    def record(self, row: Any) -> Record:
        return self.files[(row.backend, row.precision, row.variant or "", row.batch, row.way)]


class _OfDevice:
    """What is known about a model on one device. decision: its best rows; free: those without a limit on latency."""

    def __init__(
        self,
        known: _Known,
        measured: Sequence[Any],
        decision: pandas.DataFrame | None = None,
        free: pandas.DataFrame | None = None,
    ) -> None:
        self._known, self._measured, self._decision = known, measured, decision
        self._winner = None if decision is None else _winner(decision)
        self._free = None if free is None else _winner(free)

    def answer(self, device: str) -> Answer:
        title = f"{self._known.model} on {device}"
        if self._decision["emulated"].all():
            line = "Nothing can be said of speed here: an emulator stood in for the device"
            return Answer(f"{title}{EMULATED_MARK}", [line], "", self.rows())
        if self._winner is None:
            return Answer(title, [self._nothing()], "", [*self._of_verdicts(), *self.rows()])
        record = self._known.record(self._winner)
        lines = [self._what(record), self._speed(), self._accuracy(), *self._others()]
        doubts = [*self._of_winner(record), *self._of_verdicts(), *self.rows()]
        return Answer(title, [line for line in lines if line], _command(record), doubts)

    # --- the answer

    def _what(self, record: Record) -> str:
        row = self._winner
        together = f", {row.requests} requests at once" if row.way == THROUGHPUT_WAY and row.requests else ""
        path = (record.facts.get("engine") or {}).get("path")
        engine = f": {path}" if path else ": its figures were imported, its engine is not among the results"
        return f"Deploy {_target(row)} at batch size {row.batch}{together}{engine}"

    def _rate(self) -> tuple[float, float | None, float | None]:
        """images/s of the winner and the ends of its interval: measured again, if it was."""
        kind = "images_per_s" if self._winner.confirmed_images_per_s is None else "confirmed_images_per_s"
        return tuple(getattr(self._winner, kind + end) for end in ("", "_low", "_high"))

    def _speed(self) -> str:
        row, (rate, low, high) = self._winner, self._rate()
        known = [f"95% interval {low:.1f} to {high:.1f}"] if None not in (low, high) else []
        known += ["measured again"] * (row.confirmed_images_per_s is not None)
        facts = [f"{rate:.1f} images/s" + (f" ({', '.join(known)})" if known else "")]
        if row.verdict != "reference" and row.ratio_to_reference is not None:
            facts.append(f"{row.ratio_to_reference:.2f} times the best of {row.reference}")
        if row.latency_ms is not None:
            limit = "" if row.latency_ms_max is None else f", within {row.latency_ms_max:g} ms"
            facts.append(f"{row.latency_ms:.1f} ms a batch ({row.latency_percentile}{limit})")
        return f"Speed: {'; '.join(facts)}"

    def _accuracy(self) -> str:
        same = (_row(self._winner), self._winner.way)
        row = self._known.judgement(next(one for one in self._measured if (_row(one), one.way) == same))
        if row is None or row.top1 is None:
            return ""
        of = f" of {row.images_of:,}" if row.images_of else ""
        top1 = f"top-1 {row.top1:.2f} % on {row.images:,}{of} images"
        if row.is_reference:
            return f"Accuracy: {top1}; it is the reference itself"
        if None in (row.drop_points, row.drop_low_points, row.drop_high_points, row.margin_points):
            return f"Accuracy: {top1}: {row.verdict}"
        drop = f"drop {row.drop_points:+.2f} points (95% interval {row.drop_low_points:+.2f} to "
        drop += f"{row.drop_high_points:+.2f}) from {self._known.reference}"
        return f"Accuracy: {top1}; {drop}: {row.verdict}, the margin is {row.margin_points:.1f} points"

    def _others(self) -> list[str]:
        """What a reader would ask next: what is faster, and why it is not the answer."""
        notes = []
        if self._free is not None and _row(self._free) != _row(self._winner):
            rate = self._free.images_per_s
            notes.append(f"Without the limit on latency: {_row(self._free)} at {rate:.1f} images/s")
        if sum(not row.failed for row in self._measured) == 1:
            notes.append("It is the only row that was measured: there is nothing to compare it with")
        for row, judgement in self._faster():
            if judgement.verdict == "fail":
                lost = "" if judgement.drop_points is None else f": it loses {judgement.drop_points:.2f} points"
                notes.append(f"{_row(row)} is faster ({row.images_per_s:.1f} images/s) and fails{lost}")
        return notes

    def _faster(self) -> list[tuple[Any, Any]]:
        """The fastest row of each engine that is faster than the winner and has no pass, and its judgement."""
        least = 0 if self._winner is None else self._winner.images_per_s
        found: dict[str, tuple[Any, Any]] = {}
        for row in sorted(self._measured, key=lambda row: -(row.images_per_s or 0)):
            judgement = self._known.judgement(row)
            if (row.images_per_s or 0) <= least or judgement is None or judgement.is_reference or judgement.failed:
                continue
            if judgement.verdict != "pass":
                found.setdefault(_target(row), (row, judgement))
        return list(found.values())

    def _nothing(self) -> str:
        counts = Counter(one.verdict for one in self._known.judged if one.verdict and not one.is_reference)
        told = ", ".join(f"{number} {verdict}" for verdict, number in counts.items())
        notes = " ".join(unique(self._decision["note"].dropna()))
        return f"Nothing to deploy yet{f' (verdicts: {told})' if told else ''}: {notes}"

    # --- what keeps it from being certain

    def _of_winner(self, record: Record) -> list[Doubt]:
        row, reference = self._winner, self._known.reference
        again = row.confirmed_images_per_s is not None
        found = []
        if (row.confirmed_stable if again else row.stable) is False:
            why = row.confirmed_disturbed if again else record.facts.get("disturbed")
            command = (
                f"{_RERUN} results/confirm/{shlex.quote(self._known.model)}.json" if again else self._measure([row])
            )
            found.append(Doubt(f"its speed is unstable{f': {why}' if why else ''}", command))
        elif row.ratio_stable is False:
            text = f"the speed of {reference} is unstable, and so the ratio"
            found.append(Doubt(text, self._measure([one for one in self._measured if _target(one) == reference])))
        if None in self._rate() and not is_imported(record.path):
            found.append(Doubt("too few loads for an interval of its speed; measure.loads in the settings, at least 3"))
        if row.ratio_to_reference is None and row.verdict != "reference":
            found.append(Doubt(f"{reference} has no speed under the same conditions to compare with"))
        return found

    def _of_verdicts(self) -> list[Doubt]:
        """Verdicts that are not given, of rows that would win with a pass."""
        found = []
        for row, judgement in self._faster():
            if judgement.verdict is None and judgement.verdict_reason:
                found.append(Doubt(f"no verdict on any engine: {judgement.verdict_reason}"))
            elif judgement.verdict == "undecided":
                found.append(Doubt(_undecided(row, judgement)))
        return unique(found)

    def rows(self) -> list[Doubt]:
        """Rows that failed, cannot be right or cannot be compared, and images that were left out."""
        judged, found = self._known.judged, []
        lost = [one for one in judged if one.failed and _target(one) == self._known.reference]
        if lost:
            batches = ", ".join(str(one.batch) for one in lost)
            found.append(Doubt(f"the reference failed at batch size {batches}: {lost[0].failed}"))
        for why, which in _by_reason((row.failed, row) for row in self._measured):
            found.append(Doubt(f"{_some(which)} failed: {why}", self._make(which)))
        for why, which in _by_reason((row.implausible, row) for row in self._measured):
            found.append(Doubt(f"{_some(which)}: implausible, {why}", self._measure(which)))
        unlike = [row for row in self._measured if row.other_conditions]
        if unlike:
            found.append(Doubt(f"{_some(unlike)}: under other conditions than most rows", self._measure(unlike)))
        unsteady = [row for row in self._measured if row.stable is False and not row.failed]
        others = [row for row in unsteady if self._winner is None or _row(row) != _row(self._winner)]
        if others:
            found.append(Doubt(f"other unstable rows: {_some(others)}", self._measure(unsteady)))
        skipped = max((one.skipped or 0 for one in judged), default=0)
        if skipped:
            found.append(Doubt(f"{skipped:,} images were left out, since they could not be read"))
        return found

    def _make(self, failed: Sequence[Any]) -> str:
        """The command that makes engines anew, or measures what has none."""
        engines = [(self._known.record(row).facts.get("engine") or {}).get("path") or "" for row in failed]
        compiled = unique(engine for engine in engines if "compile" in Path(engine).parts)
        return f"{_RERUN} {shlex.join(compiled)}" if compiled else self._measure(failed)

    def _measure(self, measured: Sequence[Any]) -> str:
        """The command that measures rows anew; none for what was imported."""
        paths = [self._known.record(row).path for row in measured]
        loads = unique(loads_of(path) for path in paths if not is_imported(path))
        if len(loads) > _SHOWN:  # all of the model
            loads = [f"results/measure/{shlex.quote(self._known.model)}/*/*/bs*/load-*.json"]
        return f"{_RERUN} {' '.join(loads)}" if loads else ""


def markdown(answers: Sequence[Answer]) -> str:
    """The answers as Markdown."""
    parts = ["# Answer\n"] if answers else ["# Answer\n\nNo row was measured, so there is nothing to deploy.\n"]
    for answer in answers:
        first, *others = answer.lines
        parts.append(f"## {answer.title}\n\n**{first}**\n")
        lines = [f"- {' '.join(line.split())}" for line in others]
        lines += [f"- Run it:\n  `{answer.command}`"] * bool(answer.command)
        parts.append("".join(f"{line}\n" for line in lines))
        doubts = [
            f"- {' '.join(doubt.text.split())}" + (f":\n  `{doubt.command}`" if doubt.command else "")
            for doubt in answer.doubts
        ]
        if doubts:
            parts.append("Not certain yet:\n\n" + "".join(f"{line}\n" for line in doubts))
    return "\n".join(part for part in parts if part)


def _winner(decision: pandas.DataFrame) -> Any | None:
    eligible = decision[decision["backend"].notna() & ~decision["emulated"].astype(bool)]
    like_most = eligible[eligible["other_conditions"].isna()]
    label = fastest(like_most if len(like_most) else eligible)
    return None if label is None else next(rows(eligible.loc[[label]]))


def _command(record: Record) -> str:
    """What runs an engine as it was measured."""
    words = [] if is_imported(record.path) else list(map(str, record.facts.get("command") or ()))
    kept = [part for pair in zip(words, words[1:]) if pair[0] in _KEPT for part in pair]
    return shlex.join([words[0], "scripts/infer.py", *kept, "--output", "out"]) if kept else ""


def _undecided(row: Any, judgement: Any) -> str:
    """Of an engine that too few images judge: how many would do."""
    counts = (judgement.flips_right_to_wrong, judgement.flips_wrong_to_right, judgement.images)
    text = f"{_row(row)} ({row.images_per_s:.1f} images/s) is undecided on {judgement.images:,} images"
    if None in counts or not judgement.margin_points:
        return text
    enough = images_to_decide(*counts, judgement.margin_points / 100)
    if enough is not None and enough <= judgement.images:
        return f"{text}, as the verdicts are judged together"
    return f"{text}; {'no number of images' if enough is None else f'about {_rounded(enough):,}'} would decide it"


def _target(row: Any) -> str:
    return str(Target(row.backend, row.precision, row.variant or ""))


def _row(row: Any) -> str:
    return f"{_target(row)} batch size {row.batch}"


def _by_reason(found: Iterable[tuple[str | None, Any]]) -> list[tuple[str, list[Any]]]:
    """What rows have the same reason, of those that have one."""
    reasons: dict[str, list[Any]] = {}
    for why, row in found:
        if why:
            reasons.setdefault(why, []).append(row)
    return list(reasons.items())


def _some(which: Sequence[Any]) -> str:
    names = unique(map(_row, which))
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _rounded(number: int) -> int:
    """To two digits, upwards."""
    unit = 10 ** max(0, math.floor(math.log10(number)) - 1)
    return math.ceil(number / unit) * unit
