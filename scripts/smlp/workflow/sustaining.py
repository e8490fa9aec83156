"""Which engines of a sweep run for minutes, to tell what heat and limits of power leave of their rate.

Ten minutes of every row would be hours: each target runs at the batch sizes that the settings name, else at the largest
one, which loads the device most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

from ..core.cli import UserError
from .targets import Cell, Settings


def cells(every: Sequence[Cell], complete: Settings, imported: Callable[[Cell], object]) -> list[Cell]:
    """The cells of a sweep with these complete settings that run for minutes. imported: whether it has no engine."""
    measure = complete["measure"]
    named, known = measure["sustained_batch_sizes"], complete["batch_sizes"]
    for batch in named:
        if batch not in known:
            raise UserError(
                f"measure.sustained_batch_sizes: {batch}: is no batch size of this sweep; batch_sizes has "
                f"{', '.join(map(str, known))}"
            )
    if not measure["sustained_s"]:
        return []
    chosen = named or [max(known)]
    return [cell for cell in every if cell.batch in chosen and not imported(cell)]


def file(cell: Cell) -> str:
    """What a sustained run of an engine makes."""
    return f"results/sustain/{cell.place}/bs{cell.batch}.json"
