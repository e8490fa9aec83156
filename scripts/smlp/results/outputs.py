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
from ..data.manifest import Row, read_manifest, read_sidecar, require_classes, sidecar_path

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


class Form(NamedTuple):
    """What the scores of one image are: how many, of which type. None: nobody says.

    told: the file that says how many; "" if no more than a flag does.
    """

    num_classes: int | None = None
    dtype: np.dtype | None = None
    told: str = ""

    def agreed(self, other: Form) -> Form:
        """This form, completed by the other one. Raises UserError if they contradict each other."""
        for name, own, its in zip(("number of classes", "type"), self, other):
            if None not in (own, its) and own != its:
                raise UserError(
                    f"{other.told}: the {name} of the scores is {its}, but {self.told or 'the flag'} says {own}; give "
                    "results, reference and flags of the same model"
                )
        told = self.told or (other.told if other.num_classes else "")
        return Form(self.num_classes or other.num_classes, self.dtype or other.dtype, told)


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


def read_form(summaries: Iterable[Path], reference: Path | None, manifests: Iterable[Path], given: Form) -> Form:
    """The form of the scores as flags (`given`), infer.py's summaries, the reference and the data set state it.

    reference: the predictions of the reference; its figures are in the JSON file of the same stem. Raises UserError if
    two of them contradict each other.
    """
    form = given
    for path in summaries:
        form = form.agreed(_form_of_summary(path))
    figures = reference and reference.with_suffix(".json")
    if figures and figures.exists():
        known = files.read_json(figures, "the figures of evaluate.py")
        form = form.agreed(Form(known.get("num_classes") if isinstance(known, dict) else None, None, str(figures)))
    folders = [manifest.parent for manifest in manifests]
    classes = require_classes(folders, form.num_classes, form.told or "--num_classes")
    return form.agreed(Form(classes, None, str(sidecar_path(folders[0]))))


def _form_of_summary(path: Path) -> Form:
    """What infer.py says about its first output; the real ais_bench says nothing."""
    record = files.read_json(path, "the summary of infer.py")
    try:
        outputs = record.get("smlp", {}).get("outputs")
        return Form(outputs[0]["shape"][-1], np.dtype(outputs[0]["dtype"]), str(path)) if outputs else Form()
    except (AttributeError, IndexError, KeyError, TypeError):
        raise UserError(f"{path}: its 'outputs' are not what infer.py writes; run the inference again") from None


def read_logits(path: Path, images: int, form: Form) -> Iterator[np.ndarray]:
    """The scores in one result file in blocks, together (images, classes), float or int.

    Raises UserError unless they are whole, finite and of this form.
    """
    reader = {".npy": _read_npy, ".bin": _read_bin, ".txt": _read_txt}[path.suffix]
    num_classes, done = form.num_classes, 0
    for shape, logits in reader(path, images, form):
        if form.dtype and path.suffix != ".txt" and logits.dtype != form.dtype:
            raise UserError(
                f"{path}: holds {logits.dtype} where {form.dtype} was expected; it is of another run, or "
                "--outputs_dtype is wrong"
            )
        if logits.dtype.kind not in "fiu" or len(shape) != 2 or shape[1] == 0:
            raise UserError(f"{path}: holds {logits.dtype} {shape}; numbers of shape ({images}, classes) were expected")
        if shape != (images, num_classes or shape[1]):
            raise UserError(
                f"{path}: holds {shape[0]} images of {shape[1]} classes; {images} images of "
                f"{num_classes or 'any number of'} classes were expected"
                f"{f' by {form.told}' if form.told else ''}, run the inference again for this data set and model"
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


def _read_npy(path: Path, images: int, form: Form) -> _Blocks:
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


def _read_bin(path: Path, images: int, form: Form) -> _Blocks:
    # A size alone cannot tell 1,000 float16 classes from 500 float32 ones.
    if form.dtype is None and not form.told:
        raise UserError(
            f"{path}: a .bin says neither how many classes it holds nor of which type, and no summary of infer.py, "
            "figures of the reference or class folders of the data set do; add --outputs_dtype, or --reference"
        )
    size = path.stat().st_size
    dtypes = [form.dtype] if form.dtype else [np.dtype(np.float32), np.dtype(np.float16)]
    for dtype in dtypes:
        row_bytes = (form.num_classes or size // images // dtype.itemsize) * dtype.itemsize
        if size and size == images * row_bytes:
            yield (images, row_bytes // dtype.itemsize), np.fromfile(path, dtype).reshape(images, -1)
            return
    wanted = f"{images} images of {form.num_classes or 'any number of'} classes"
    sizes = " or ".join(f"{dtype.itemsize * images * (form.num_classes or 1)} as {dtype}" for dtype in dtypes)
    raise UserError(
        f"{path}: has {size} bytes; {wanted} are {sizes}{f' by {form.told}' if form.told else ''}; run the inference "
        "again, or check --num_classes and --outputs_dtype"
    )


def _read_txt(path: Path, images: int, form: Form) -> _Blocks:
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


def transform_of(manifests: Iterable[Path]) -> str | None:
    """What the images went through, in the words of the sidecars beside the manifests' folders; None if one has none.

    Raises UserError if shards went through different ones.
    """
    told: dict[str | None, Path] = {}
    for manifest in manifests:
        words = read_sidecar(manifest.parent).get("transform_words")
        told.setdefault(words if isinstance(words, str) else None, manifest)
    if len(told) > 1 and None not in told:
        (one, first), (other, second), *_ = told.items()
        raise UserError(
            f"{second}: its images went through {other!r}, those of {first} through {one!r}; give the manifests of one "
            "preprocessing"
        )
    return None if None in told else next(iter(told))


def count_skipped(manifests: Iterable[Path]) -> int | None:
    """Images that preprocess.py left out, from the sidecars beside the manifests' folders; None if any lacks one."""
    listed = [read_sidecar(manifest.parent).get("skipped") for manifest in manifests]
    return sum(map(len, listed)) if all(isinstance(found, list) for found in listed) else None


def images_of(manifests: Iterable[Path]) -> int | None:
    """Of how many images those of the manifests are a part that somebody asked for; None if they are all."""
    parts = [read_sidecar(manifest.parent).get("part") for manifest in manifests]
    totals = {part.get("of") for part in parts if isinstance(part, dict)}
    return next(iter(totals)) if len(totals) == 1 and len(parts) and all(parts) else None
