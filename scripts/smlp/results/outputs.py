"""Finding and decoding the results of infer.py or the real ais_bench: whose they are, and the scores in them.

NumPy only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..core import files, identity
from ..core.cli import UserError
from ..core.provenance import Facts
from ..core.runs import RunFacts
from ..data import arrays
from ..data.manifest import Row, read_manifest

# What else lies in a result folder: Snakemake's mark on folders, and ais_bench's summaries.
_NO_RESULTS = (".snakemake_timestamp", "sumary.json")
_SUFFIXES = (".npy", ".bin", ".txt")
# what shards of one run agree in
_SAME = ("model", "backend", "precision", "variant", "batch", "device", "emulated", "engine_id", "num_classes")
# of a packed shard's logits in memory: 16 MB of 1,000 float32 classes
_BLOCK_ROWS = 4096


class Bin(NamedTuple):
    """The images of one .bin file, in their order in it."""

    manifest: Path
    name: str
    rows: list[Row]


def find_failure(folders: Iterable[Path]) -> Facts | None:
    """The first record of infer.py that says why there are no results, None if every folder has some."""
    for folder in folders:
        path = summary_of(folder)
        record = files.read_json(path, "the summary of infer.py") if path.exists() else {}
        if isinstance(record, dict) and isinstance(record.get("failed"), str) and isinstance(record.get("smlp"), dict):
            identity.verify(record["smlp"], path)
            return record
    return None


def summary_of(folder: Path) -> Path:
    """The summary of a result folder, there or not; ais_bench 0.0.1 wrote sumary.json into the folder."""
    absolute = Path(os.path.abspath(folder))
    beside, inside = absolute.with_name(absolute.name + "_summary.json"), absolute / "sumary.json"
    return beside if beside.exists() or not inside.exists() else inside


def read_bins(manifests: Iterable[Path]) -> dict[str, Bin]:
    """Bins by their stem (the name up to the first dot, as ais_bench cuts it), in the order of the manifests.

    Raises UserError for a file that is no manifest, for an image or index that is listed twice, and for bins whose
    results would have the same name.
    """
    bins: dict[str, Bin] = {}
    images: dict[str, Path] = {}
    indices: dict[int, Path] = {}
    for path in manifests:
        for row in read_manifest(path):
            for seen, value, column in ((images, row.image, "image"), (indices, row.index, "index")):
                if value in seen:
                    raise UserError(
                        f"{path}: {column} {value} is listed twice (also in {seen[value]}); give each shard once"
                    )
                seen[value] = path
            name = os.path.basename(row.bin)
            stem = name.split(".")[0]
            held = bins.setdefault(stem, Bin(path, name, []))
            if (held.manifest, held.name) != (path, name):
                raise UserError(
                    f"{path}: bins {name} and {held.name} ({held.manifest}) share the stem {stem}, "
                    "their results would overwrite each other; rename one and run the inference again"
                )
            held.rows.append(row)
    return bins


def find_results(folders: Iterable[Path], bins: dict[str, Bin]) -> dict[str, Path]:
    """The result file of every bin, by stem. Raises UserError for a missing or a surplus one."""
    results: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(
                f"{folder}: is no folder; --infer_result_dir takes folders that infer.py or ais_bench wrote"
            )
        renamed = _renamed(folder / "sumary.json")
        for path in sorted(folder.iterdir()):
            if path.name in _NO_RESULTS or path.name.endswith("_summary.json"):
                continue
            stem = renamed.get(path.name, path.stem[: -len("_0")])
            if path.suffix not in _SUFFIXES or not path.stem.endswith("_0") or stem not in bins:
                raise UserError(
                    f"{path}: belongs to no image of the manifests; it is left over from another run, or --labels "
                    "lacks the manifest of its shard"
                )
            other = results.setdefault(stem, path)
            if other != path:
                raise UserError(
                    f"{path}: is a second result of bin {bins[stem].name} beside {other}; remove the stale one"
                )
    missing = [stem for stem in bins if stem not in results]
    if missing:
        held = bins[missing[0]]
        raise UserError(
            f"{missing[0]}_0: {len(missing)} of {len(bins)} results are missing in {', '.join(map(str, folders))}, "
            f"first that of {held.name} ({held.manifest}); run the inference again over all bins"
        )
    return results


def _renamed(summary: Path) -> dict[str, str]:
    """Stems of bins by the result files of ais_bench 0.0.1, which numbers them: sample_id_7_output_0.bin."""
    record = files.read_json(summary, "the summary of ais_bench 0.0.1") if summary.exists() else {}
    entries = record.get("filesinfo") if isinstance(record, dict) else None
    renamed = {}
    for entry in entries.values() if isinstance(entries, dict) else ():
        try:
            renamed[os.path.basename(entry["outfiles"][0])] = os.path.basename(entry["infiles"][0]).split(".")[0]
        except (KeyError, IndexError, TypeError, AttributeError):
            raise UserError(f"{summary}: its filesinfo is not what ais_bench writes; run the inference again") from None
    return renamed


def read_logits(path: Path, images: int, num_classes: int | None) -> Iterator[np.ndarray]:
    """The scores in one result file in blocks, together (images, classes), float or int.

    Raises UserError unless they are whole and finite.
    """
    reader = {".npy": _read_npy, ".bin": _read_bin, ".txt": _read_txt}[path.suffix]
    done = 0
    for shape, logits in reader(path, images, num_classes):
        if logits.dtype.kind not in "fiu" or len(shape) != 2 or shape[1] == 0:
            raise UserError(f"{path}: holds {logits.dtype} {shape}; numbers of shape ({images}, classes) were expected")
        if shape != (images, num_classes or shape[1]):
            raise UserError(
                f"{path}: holds {shape[0]} images of {shape[1]} classes; {images} images of "
                f"{num_classes or 'any number of'} classes were expected, run the inference again"
            )
        finite = np.isfinite(logits).all(axis=1)
        if not finite.all():
            raise UserError(
                f"{path}: row {done + int(finite.argmin())} is not finite (NaN or infinity); the engine overflows, "
                "compile it with more precision"
            )
        yield logits
        done += len(logits)


# of a file: the shape of its whole array, and the next block of its rows
_Blocks = Iterator[tuple[tuple[int, ...], np.ndarray]]


def _read_npy(path: Path, images: int, num_classes: int | None) -> _Blocks:
    with open(path, "rb") as stream:
        try:
            header = arrays.read_header(stream)
        except ValueError as error:
            raise UserError(f"{path}: is not a whole .npy file ({error}); run the inference again") from None
        if not header.shape or not header.shape[0]:
            yield header.shape, np.empty(header.shape, header.dtype)
            return
        for block in arrays.read_rows(stream, header, _BLOCK_ROWS):
            yield header.shape, block
        if stream.read(1):
            raise UserError(f"{path}: goes on after its array; run the inference again")


def _read_bin(path: Path, images: int, num_classes: int | None) -> _Blocks:
    if num_classes is None:
        # A size alone cannot tell 1000 float32 classes from 2000 float16 ones.
        raise UserError(f"{path}: a .bin does not say how many classes it holds; add --num_classes")
    size = path.stat().st_size
    for dtype in (np.float32, np.float16):
        if size == images * num_classes * np.dtype(dtype).itemsize:
            yield (images, num_classes), np.fromfile(path, dtype).reshape(images, num_classes)
            return
    raise UserError(
        f"{path}: has {size} bytes; {images} images of {num_classes} classes are {4 * images * num_classes} as float32 "
        f"or {2 * images * num_classes} as float16, run the inference again or check --num_classes"
    )


def _read_txt(path: Path, images: int, num_classes: int | None) -> _Blocks:
    try:
        text = path.read_text(encoding="ascii")
        rows = [np.array(line.split(), dtype=np.float64) for line in text.splitlines()]
    except ValueError as error:
        raise UserError(f"{path}: is not a table of numbers ({error}); run the inference again") from None
    if not text.endswith("\n") or len({len(row) for row in rows}) != 1:
        raise UserError(f"{path}: is empty or cut off; lines of the same length were expected, run the inference again")
    logits = np.stack(rows)
    yield logits.shape, logits


def run_facts(folders: Iterable[Path], given: RunFacts) -> tuple[RunFacts, list[Path]]:
    """What is known about the run: from the summaries that infer.py left beside the result folders, and `given`.

    Returns the facts and the summaries read. Raises UserError if shards, or the summaries and what is given,
    contradict each other; only the model may get another name.
    """
    summaries = {}
    for folder in folders:
        path = summary_of(folder)
        summaries[path] = _summary_facts(path)
    (first, facts), *others = summaries.items()
    for path, found in others:
        for name in _SAME:
            if getattr(facts, name) != getattr(found, name):
                raise UserError(
                    f"{path}: {name} is {getattr(found, name)!r} where {first} has {getattr(facts, name)!r}; these are "
                    "shards of different runs (None: no summary by infer.py), score them one by one"
                )
    return facts.with_flags(given, first), [path for path in summaries if path.exists()]


def _summary_facts(path: Path) -> RunFacts:
    """The facts in one summary; none is known if the real ais_bench wrote it, or nobody did."""
    record = files.read_json(path, "the summary of infer.py") if path.exists() else {}
    known = record.get("smlp", {}) if isinstance(record, dict) else {}
    if not isinstance(known, dict) or not isinstance(known.get("num_classes", 1), int):
        raise UserError(f"{path}: its part 'smlp' is not what infer.py writes; run the inference again")
    return RunFacts.read(known)


def count_skipped(manifests: Iterable[Path]) -> int | None:
    """Images that preprocess.py left out, from the sidecars beside the manifests' folders; None if any lacks one."""
    skipped = 0
    for manifest in manifests:
        folder = Path(os.path.abspath(manifest)).parent
        sidecar = folder.with_name(folder.name + ".json")
        record = files.read_json(sidecar, "the sidecar of preprocess.py") if sidecar.exists() else None
        if not isinstance(record, dict) or not isinstance(record.get("skipped"), list):
            return None
        skipped += len(record["skipped"])
    return skipped
