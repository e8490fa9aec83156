"""What a sustained run says: how its rate, and the device's temperature, clock and power, went over time.

A series has one line for each slot of time, however long the run. NumPy only: the commands that run on the target
import this under Python 3.9.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..core.provenance import Facts
from ..core.sampling import Sample

# Columns of a series, float64; NaN where nothing tells. compute_s: of all runs that began in the slot.
COLUMNS = ("started_s", "ended_s", "runs", "compute_s", "temperature_c", "clock_mhz", "power_w")
STATE = COLUMNS[4:]
_FIRST_S, _LAST = 60.0, 0.1
# A series has no more slots than that; in short runs they are short enough for a tenth to have two.
_MOST_SLOTS, _FEWEST_SLOTS, _SLOT_S = 3600, 20, 1.0


class Slot(NamedTuple):
    """What an engine did in a part of a run, in seconds since its start."""

    started_s: float
    ended_s: float
    runs: int
    compute_s: float


def slot_s(sustained_s: float) -> float:
    """How long each slot of a run of so many seconds is."""
    return max(sustained_s / _MOST_SLOTS, min(_SLOT_S, sustained_s / _FEWEST_SLOTS))


def series(slots: Sequence[Slot], samples: Iterable[Sample]) -> np.ndarray:
    """float64 (slots, COLUMNS): each slot with the means of the samples that were taken in it."""
    found = np.full((len(slots), len(COLUMNS)), np.nan)
    found[:, : len(Slot._fields)] = slots
    taken: dict[int, list[Sample]] = {}
    for sample in samples:
        place = int(np.searchsorted(found[:, 0], sample.at_s, side="right")) - 1
        taken.setdefault(min(max(place, 0), len(slots) - 1), []).append(sample)
    for place, of_slot in taken.items():
        for column, name in enumerate(STATE, len(Slot._fields)):
            told = [value for value in (getattr(sample, name) for sample in of_slot) if value is not None]
            if told:
                found[place, column] = np.mean(told)
    return found


def figures(found: np.ndarray, batch: int) -> Facts:
    """The columns of a sustained run, from its series: its rates, and each state at its start, most and end.

    Rates are batch · runs / their compute seconds, as images_per_s of a row: in the first minute (of runs below two
    minutes in the first half), and in the last tenth. A slot belongs to the part that its middle lies in.
    """
    total_s = float(found[-1, 1])
    middle_s = (found[:, 0] + found[:, 1]) / 2
    first = _rate(found, middle_s < min(_FIRST_S, total_s / 2), 0, batch)
    last = _rate(found, middle_s >= (1 - _LAST) * total_s, -1, batch)
    facts: Facts = {
        "sustained_s": total_s,
        "sustained_first_images_per_s": first,
        "sustained_last_images_per_s": last,
        # a single run has no course of time
        "sustained_percent": 100 * last / first if len(found) > 1 else None,
    }
    for column, name in enumerate(STATE, len(Slot._fields)):
        told = found[~np.isnan(found[:, column]), column].tolist()
        ends = (told[0], max(told), told[-1]) if told else (None, None, None)
        facts.update(zip((f"sustained_{name}_{when}" for when in ("start", "max", "end")), ends))
    return facts


def first_part(sustained_s: float) -> str:
    """What the first part of a run is called."""
    return "first minute" if sustained_s >= 2 * _FIRST_S else "first half"


def _rate(found: np.ndarray, part: np.ndarray, otherwise: int, batch: int) -> float:
    """images/s of the slots of a part; of the slot `otherwise` if none is, as with runs that take longer than it."""
    own = found[part] if part.any() else found[[otherwise]]
    return batch * float(own[:, 2].sum() / own[:, 3].sum())
