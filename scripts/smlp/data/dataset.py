"""The validation set: which images, which labels, in which order; its shards; the manifest of the bins.

Standard library only, and quick to import: the workflow lists the images each time it starts. What a data set's own
files state is read in sources.py; the rules by which that becomes labels are in classes.py.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..core.cli import UserError
from ..core.provenance import Facts
from . import classes, sources
from .classes import Entry as Entry
from .classes import Rules as Rules
from .classes import said as said

# The manifest belongs to the data set: commands that also list images take all of it from here.
from .manifest import MANIFEST as MANIFEST
from .manifest import Row as Row
from .manifest import read_manifest
from .manifest import sidecar_path as sidecar_path
from .manifest import write_manifest as write_manifest

# What the folder of a shard holds, as a regular expression of file names
SHARD_FILES = r"manifest\.csv|pixels\.json|batch-\d{5,}\.bin|images-\d{5,}\.npy"


class Listed(NamedTuple):
    """The images to work on.

    of: how many the split has; left_out: what is none of them, in words, and how many; facts: how labels were found, as
    `classes.label` says it, None if they do not matter.
    """

    entries: list[Entry]
    of: int
    left_out: dict[str, int]
    facts: Facts | None


def listed(
    data_root: str | os.PathLike,
    split: str = "val",
    *,
    labels: str | os.PathLike | None = None,
    columns: Sequence[str] | None = None,
    images: int | None = None,
    seed: int = 0,
    labelled: bool = True,
    **rules: Any,
) -> Listed:
    """Every image of the split with its label, in the order that sources.py states; or only a part of them.

    labels, columns: the label file, and its columns if it is a table. images, seed: of `part`. labelled: False if
    labels do not matter. rules: what decides labels, the fields of `Rules`.
    Raises UserError if the folder is missing or empty, or does not give every image exactly one label.
    """
    found = sources.find(data_root, split, labels, columns, labelled)
    if labelled:
        entries, facts = classes.label(found, Rules(**rules), str(Path(data_root, split)))
    else:
        entries, facts = classes.unlabelled(found), None
    return Listed(entries if images is None else part(entries, images, seed), len(entries), found.left_out, facts)


def list_images(data_root: str | os.PathLike, split: str = "val", **about: Any) -> list[Entry]:
    """As `listed`, the images alone."""
    return listed(data_root, split, **about).entries


def in_words(left_out: Mapping[str, int]) -> str:
    """What was left out, as text."""
    return ", ".join(f"{count:,} {what}" for what, count in sorted(left_out.items()))


def part(entries: Sequence[Entry], count: int, seed: int) -> list[Entry]:
    """`count` of `entries` in their order, numbered anew: of every class its share, chosen by `seed`.

    Shares are rounded down, and what is then missing goes to the classes that lost most. All entries if there are no
    more. The choice depends on the paths and the seed alone: the same on every machine.
    """
    if count >= len(entries):
        return list(entries)
    of_class: dict[int, list[Entry]] = {}
    for entry in entries:
        of_class.setdefault(entry.label, []).append(entry)
    shares = {label: divmod(count * len(members), len(entries)) for label, members in of_class.items()}
    missing = count - sum(share for share, _ in shares.values())
    most_lost = set(sorted(shares, key=lambda label: (-shares[label][1], _rank(seed, str(label))))[:missing])
    chosen = []
    for label, members in of_class.items():
        share = shares[label][0] + (label in most_lost)
        chosen += sorted(members, key=lambda entry: _rank(seed, entry.image))[:share]
    return [entry._replace(index=index) for index, entry in enumerate(sorted(chosen))]


def shard(entries: Sequence[Entry], index: int, count: int, batch_size: int = 1) -> list[Entry]:
    """Part `index` (from 0) of `count` contiguous parts that differ by at most one batch.

    Parts start where a batch starts, so that no bin belongs to two of them.
    """
    batches = -(-len(entries) // batch_size)
    first, last = (batches // count * part + min(part, batches % count) for part in (index, index + 1))
    return list(entries[first * batch_size : last * batch_size])


def draw(
    entries: Sequence[Entry],
    data_root: str | Path,
    count: int,
    seed: int,
    scored: Collection[str],
    digest: Callable[[str], str] | None = None,
) -> list[Entry]:
    """`count` of `entries`, chosen by `seed` and numbered anew, whose content is not among `scored` nor drawn before.

    They calibrate int8 engines: an image that is also scored would flatter the accuracy.
    scored: SHA-256 of image files; digest: what finds it for a path relative to data_root. The order is that of a
    digest of seed and path: the same choice on every machine, and images that are added later move into it without
    shuffling the rest. Raises UserError if there are too few.
    """
    scored = frozenset(scored)
    digest = digest or functools.partial(sources.digest, data_root)
    drawn: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda entry: _rank(seed, entry.image)):
        if len(drawn) == count:
            break
        sha256 = digest(entry.image)
        if sha256 not in scored:
            drawn.setdefault(sha256, entry._replace(index=len(drawn)))
    if len(drawn) < count:
        raise UserError(
            f"{data_root}: has only {len(drawn)} different images to calibrate with that are not scored, {count} were "
            "asked for; ask for fewer (calibration.images), or add training images"
        )
    return list(drawn.values())


def _rank(seed: int, image: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{image}".encode("utf-8", "surrogateescape")).digest()


def checksums(manifests: Sequence[str | Path]) -> frozenset[str]:
    """SHA-256 of every image that the manifests list. Raises UserError for a manifest that lacks one."""
    found = set()
    for manifest in manifests:
        for row in read_manifest(manifest):
            if not row.sha256:
                raise UserError(f"{manifest}: has no sha256 of {row.image}; preprocess again")
            found.add(row.sha256)
    return frozenset(found)


def bin_name(number: int) -> str:
    """File name of a bin; `number` counts batches over the whole split, so shards never share a name."""
    return f"batch-{number:05d}.bin"


def packed_name(first_index: int) -> str:
    """File name of a packed shard; the number is that of its first image, so shards never share a name."""
    return f"images-{first_index:05d}.npy"
