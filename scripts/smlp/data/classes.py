"""Which label an image gets: the rules from what a data set's own files state to the index of a class.

Standard library only, and quick to import: the workflow lists the images each time it starts.
"""

from __future__ import annotations

from typing import NamedTuple

from .sources import Found


class Entry(NamedTuple):
    """One image of the split: its position in it, its path relative to data_root, its class folder and index."""

    index: int
    image: str
    class_name: str
    label: int


def assign(found: Found) -> list[Entry]:
    """Every picture with its label: the stated number, or the position of its class among all in sorted order."""
    positions = {group: place for place, group in enumerate(sorted({picture.group for picture in found.pictures}))}
    return [
        Entry(index, image, group or str(label), positions[group] if label is None else label)
        for index, (image, group, label) in enumerate(found.pictures)
    ]
