"""Two finished sweeps, row by row: what got worse, what got better, what cannot be told, and what else changed."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from . import gate
from .columns import printable
from .gate import Accuracy, Speed
from .history import Entry, Key, Predictions, Row

# Why a row is the same though nobody compared its figures.
_ONE_RESULT = "it is the same result"


class SpeedChange(NamedTuple):
    """A row of both tables of throughput. marks: why it bears a star."""

    key: Key
    base: Row
    head: Row
    speed: Speed
    marks: str = ""


class AccuracyChange(NamedTuple):
    """A row of both tables of accuracies. accuracy: None if it cannot be compared, for the reason."""

    key: Key
    base: Row
    head: Row
    accuracy: Accuracy | None
    reason: str | None

    @property
    def verdict(self) -> str:
        """better, same, worse or undecided."""
        if own_verdict(self.head) == "fail" and own_verdict(self.base) not in (None, "fail"):
            return "worse"
        return self.accuracy.verdict if self.accuracy else "same" if self.reason == _ONE_RESULT else "undecided"


@dataclass(frozen=True)
class Comparison:
    """What two sweeps say together. new, missing: keys by table. failed: rows of the head. changed: in words."""

    base: str
    head: str
    speeds: Sequence[SpeedChange]
    accuracies: Sequence[AccuracyChange]
    new: Sequence[str] = ()
    missing: Sequence[str] = ()
    failed: Sequence[str] = ()
    newly_failed: Sequence[str] = ()
    mended: Sequence[str] = ()
    changed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    margin_percent: float = gate.MARGIN_PERCENT
    familywise: str = "none"
    interleaved: bool = False
    accept_points: float = 0.0

    @property
    def got_worse(self) -> bool:
        """Whether any row did: slower, less accurate or newly failed."""
        slower = any(one.speed.verdict == "slower" for one in self.speeds)
        return slower or any(one.verdict == "worse" for one in self.accuracies) or bool(self.newly_failed)


def compare(
    base: Entry,
    head: Entry,
    *,
    margin_percent: float = gate.MARGIN_PERCENT,
    familywise: str = "none",
    accept_points: float = 0.0,
    margin_points: float = 1.0,
    interleaved: Mapping[Key, tuple[Sequence[float], Sequence[float]]] | None = None,
) -> Comparison:
    """Row by row. interleaved: images/s of rounds in which both were measured in turn; only these rows have a speed."""
    tables = {table: (base.by_key(table), head.by_key(table)) for table in ("accuracy", "throughput")}
    pairs = {
        table: [(key, was[key], now[key]) for key in now if key in was and not (was[key].failed or now[key].failed)]
        for table, (was, now) in tables.items()
    }
    speeds = _speeds(base, head, pairs["throughput"], margin_percent, familywise, interleaved)
    accuracies = [_accuracy_change(*pair, accept_points, margin_points) for pair in pairs["accuracy"]]
    failed, newly_failed, mended, new, missing = [], [], [], [], []
    for table, (was, now) in tables.items():
        # what failed did so before it could run in any way
        lost = {key[:-1] for key, row in now.items() if row.failed}
        for key, row in now.items():
            if row.failed:
                failed.append(f"{table} of {key}: {row.failed}")
                ran = any(other[:-1] == key[:-1] and not was[other].failed for other in was)
                newly_failed += [f"{table} of {key}: {row.failed}"] * ran
            elif key not in was:
                new.append(f"{table} of {key}")
            elif was[key].failed:
                mended.append(f"{table} of {key}, which failed before: {was[key].failed}")
        missing += [f"{table} of {key}" for key in was if key not in now and key[:-1] not in lost]
    return Comparison(
        base.name,
        head.name,
        speeds,
        accuracies,
        new,
        missing,
        failed,
        newly_failed,
        mended,
        changes(base, head),
        margin_percent,
        familywise,
        interleaved is not None,
        accept_points,
    )


# --- speed


def _speeds(
    base: Entry,
    head: Entry,
    pairs: Sequence[tuple[Key, Row, Row]],
    margin_percent: float,
    familywise: str,
    interleaved: Mapping[Key, tuple[Sequence[float], Sequence[float]]] | None,
) -> list[SpeedChange]:
    if interleaved is not None:
        pairs = [pair for pair in pairs if pair[0] in interleaved]
    reasons, differences = [], []
    for key, was, now in pairs:
        reason = None if interleaved is not None else _one_result(was, now) or _not_comparable(base, head, was, now)
        reasons.append(reason or _unfit(was, now))
        # what cannot be judged says nothing about the others' spread either
        if reasons[-1]:
            differences.append(None)
        elif interleaved is not None:
            differences.append(gate.paired(*interleaved[key]))
        else:
            differences.append(gate.unpaired(was.rates, now.rates))
    found = gate.judge_speed(differences, margin_percent, familywise)
    changes_ = []
    for (key, was, now), speed, reason in zip(pairs, found, reasons, strict=True):
        rates = [row.figures.get("images_per_s") for row in (was, now)]
        if speed.ratio is None and all(rates):
            verdict = "same" if reason == _ONE_RESULT else speed.verdict
            speed = speed._replace(ratio=rates[1] / rates[0], reason=reason or speed.reason, verdict=verdict)
        changes_.append(SpeedChange(key, was, now, speed, "*" * (interleaved is None and _is_unstable(was, now))))
    return changes_


def _one_result(was: Row, now: Row) -> str | None:
    """Whether both sweeps show one and the same result."""
    return _ONE_RESULT if was.result and was.result == now.result else None


def _not_comparable(base: Entry, head: Entry, was: Row, now: Row) -> str | None:
    """Why speeds cannot be compared: they were measured on different hosts, or differently."""
    if was.host != now.host:
        differs = differences(base.hosts.get(was.host or "", {}), head.hosts.get(now.host or "", {}))
        return f"measured under other conditions: {listed(differs, 3) or 'one side states none'}"
    for name in ("device", "threads", "requests", "streams"):
        sides = [row.figures.get(name) for row in (was, now)]
        if sides[0] != sides[1]:
            return f"{name} {sides[1]}, before {sides[0]}"
    return None


def _unfit(was: Row, now: Row) -> str | None:
    """Why a row's speed says nothing, whatever it is compared with."""
    for side, row in (("base", was), ("head", now)):
        if row.figures.get("emulated"):
            return "emulated: its speed means nothing"
        if row.figures.get("batch_checked") is False:
            return f"the batch size of the {side} is not checked"
        if row.figures.get("implausible"):
            return f"implausible in the {side}: {row.figures['implausible']}"
    return None


def _is_unstable(*sides: Row) -> bool:
    return any(row.figures.get("stable") is False for row in sides)


# --- accuracy


def own_verdict(row: Row) -> str | None:
    """The verdict on a row in its own sweep, against its reference."""
    return row.figures.get("verdict")


def _accuracy_change(key: Key, was: Row, now: Row, accept_points: float, margin_points: float) -> AccuracyChange:
    if one := _one_result(was, now):
        return AccuracyChange(key, was, now, None, one)
    missing = [side for side, row in (("base", was), ("head", now)) if row.predictions is None]
    if missing:
        return AccuracyChange(key, was, now, None, f"no predictions are kept of the {' and of the '.join(missing)}")
    found = judge_predictions(was.predictions(), now.predictions(), accept_points, margin_points)
    if isinstance(found, str):
        return AccuracyChange(key, was, now, None, found)
    return AccuracyChange(key, was, now, found, None)


def judge_predictions(
    base: Predictions, head: Predictions, accept_points: float = 0.0, margin_points: float = 1.0
) -> Accuracy | str:
    """What the head lost on the same images, or why that cannot be said."""
    told = image_difference(base, head)
    if told:
        return told
    place = {image: index for index, image in enumerate(base.images)}
    order = [place[image] for image in head.images]
    return gate.judge_accuracy(head.labels, base.predicted[order], head.predicted, accept_points, margin_points)


def image_difference(base: Predictions, head: Predictions) -> str | None:
    """How two lists of labelled images differ, None if they do not."""
    surplus, lacking = set(head.images) - set(base.images), set(base.images) - set(head.images)
    if surplus or lacking:
        parts = [
            f"{len(found)} {how}, {printable(min(found))} for one"
            for found, how in ((lacking, "are missing"), (surplus, "are new"))
            if found
        ]
        return f"other images: {'; '.join(parts)}"
    labels = dict(zip(base.images, base.labels.tolist(), strict=True))
    for image, label in zip(head.images, head.labels.tolist(), strict=True):
        if labels[image] != label:
            return f"other labels: {printable(image)} has {label}, before {labels[image]}"
    return None


# --- what else changed


def differences(was: Any, now: Any, where: str = "") -> list[str]:
    """`key: before → now` for every value that differs between two mappings, at any depth."""
    if isinstance(was, dict) and isinstance(now, dict):
        keys = [*was, *(key for key in now if key not in was)]
        return [
            text
            for key in keys
            for text in differences(was.get(key), now.get(key), f"{where}.{key}" if where else str(key))
        ]
    if isinstance(was, list) and isinstance(now, list) and was != now:
        if all(isinstance(one, str) for one in (*was, *now)):
            gone, come = sorted(set(was) - set(now)), sorted(set(now) - set(was))
            return [f"{where}: " + ", ".join([f"without {one}" for one in gone] + [f"with {one}" for one in come])]
        longest = max(len(was), len(now))
        sides = [dict(enumerate([*side, *[None] * (longest - len(side))])) for side in (was, now)]
        return differences(*sides, where)
    return [] if was == now else [f"{where}: {_shown(was)} → {_shown(now)}"]


def _shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    return printable(text if len(text) <= 80 else f"{text[:77]}…")


def changes(base: Entry, head: Entry) -> dict[str, list[str]]:
    """What differs in settings, versions, hosts, checkpoints and how rows were made: in words, by kind."""
    found: dict[str, list[str]] = {}
    if base.settings is not None and head.settings is not None:
        found["settings"] = differences(base.settings, head.settings)
    found["how rows were made"] = _of_rows(base, head, lambda row: row.asked, ("images",))
    found["versions"] = _of_rows(base, head, lambda row: _versions(row))
    found["host"] = _hosts(base, head)
    found["models"] = [
        f"{model} starts from another checkpoint or ONNX file ({_digest(base, model)} → {_digest(head, model)})"
        for model in head.starts
        if model in base.starts and base.starts[model].get("sha256") != head.starts[model].get("sha256")
    ]
    was = {**base.by_key("throughput"), **base.by_key("accuracy")}
    now = {**head.by_key("throughput"), **head.by_key("accuracy")}
    other = [
        str(key)
        for key, row in now.items()
        if key in was and row.figures.get("engine_id") != was[key].figures.get("engine_id")
    ]
    both = sum(key in was for key in now)
    if other:
        found["engines"] = [f"{len(other)} of {both} rows have another engine (by its id): {listed(other, 4)}"]
    return {kind: texts for kind, texts in found.items() if texts}


def _digest(entry: Entry, model: str) -> str:
    return str(entry.starts[model].get("sha256"))[:12]


def _versions(row: Row) -> Any:
    try:
        return json.loads(row.figures.get("versions") or "{}")
    except ValueError:
        return {}


def _of_rows(base: Entry, head: Entry, of: Any, without: Collection[str] = ()) -> list[str]:
    """What differs in rows of both sweeps, each difference once, with how many rows show it if not all do."""
    counted: dict[str, int] = {}
    both = 0
    was = {(row.table, row.key): row for row in base.rows}
    for row in head.rows:
        before = was.get((row.table, row.key))
        if before is None or before.failed or row.failed:
            continue
        sides = [{key: value for key, value in of(one).items() if key not in without} for one in (before, row)]
        if all(sides):
            both += 1
            for text in differences(*sides):
                counted[text] = counted.get(text, 0) + 1
    return [text if count == both else f"{text} (in {count} of {both} rows)" for text, count in counted.items()]


def _hosts(base: Entry, head: Entry) -> list[str]:
    if set(base.hosts) == set(head.hosts) or not (base.hosts and head.hosts):
        return []
    texts = [differences(was, now) for was in base.hosts.values() for now in head.hosts.values()]
    return min(texts, key=len) if texts else []


def listed(texts: Sequence[str], most: int) -> str:
    """The first of these, and how many more there are."""
    more = f", and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more
