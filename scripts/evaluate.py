"""Score inference results against the labels: top-1, top-5, and what the engine changed against a reference.

Reads result folders as infer.py or the real ais_bench write them (`<stem>_0.npy`, `.bin` or `.txt`, (1, classes) a
file, or (n, classes) where a bin holds n images or a whole shard) and the manifests of preprocess.py (columns index,
bin, image, label). A result belongs to the bin of the same stem, so labels never depend on the order of files. Every
image of the manifests must be there exactly once: a missing, surplus, cut-off or non-finite result is an error.

Prints `acc1:0.8125, acc5:0.9549`. With --json it also writes the figures with their intervals, with --predictions a
table that can be the --reference of another run.

  scripts/evaluate.py --infer_result_dir out/bs8 --labels bins/manifest.csv --reference pytorch.csv --json bs8.json

Equal scores rank by class index, lowest first. With C < 5 classes top-5 means top-C. NumPy is all it needs.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from smlp.core import cli, files, lock, provenance
from smlp.core.cli import UserError
from smlp.data import arrays
from smlp.results import statistics

# What else lies in a result folder: Snakemake's mark on folders, and ais_bench's summaries.
_NO_RESULTS = (".snakemake_timestamp", "sumary.json")
_SUFFIXES = (".npy", ".bin", ".txt")
# What the summary of infer.py knows about a run; shards of one run agree in all of it.
_FACTS = ("model", "backend", "precision", "batch", "device", "emulated", "engine_sha256", "num_classes")
# of a packed shard's logits in memory: 16 MB of 1,000 float32 classes
_BLOCK_ROWS = 4096
_COLUMNS = ("index", "image", "label", "predicted", "rank")


class Image(NamedTuple):
    """One line of a manifest. label: class index."""

    index: int
    image: str
    label: int


class Bin(NamedTuple):
    """The images of one .bin file, in the order in which they lie in it."""

    manifest: Path
    name: str
    images: list[Image]


class Prediction(NamedTuple):
    """predicted: top-1 class index; rank: position of the true label, 0 where top-1 is right."""

    index: int
    image: str
    label: int
    predicted: int
    rank: int


def main(argv: Sequence[str] | None = None) -> int:
    evaluate(_parse(argv))
    return 0


@lock.hold("cpu", exclusive=False)
def evaluate(flags: argparse.Namespace) -> None:
    """Everything that the flags ask for."""
    failure = find_failure(flags.infer_result_dir)
    if failure and not (flags.json and flags.reference):
        raise UserError(f"there are no results to score: {failure['failed']}")
    if failure:
        cli.say(f"no results to score: {failure['failed']}")
        about = {**failure["smlp"], "model": flags.model_label or failure["smlp"]["model"]}
        files.write_json(flags.json, {"failed": failure["failed"], "smlp": about})
        return
    bins = read_manifests(flags.labels)
    results = find_results(flags.infer_result_dir, bins)
    given = {name: getattr(flags, name) for name in ("model_label", "backend", "precision", "device", "num_classes")}
    facts, summaries = run_facts(flags.infer_result_dir, {**given, "batch": flags.batchsize})
    predictions, facts["num_classes"] = predict(bins, results, facts["num_classes"])
    figures = score(predictions)
    changes = compare(predictions, flags.reference, flags.margin_points) if flags.reference else _NO_REFERENCE
    if flags.predictions:
        write_predictions(flags.predictions, predictions)
    if flags.json:
        inputs = {f"labels_{number}": path for number, path in enumerate(flags.labels)}
        inputs.update({f"summary_{number}": path for number, path in enumerate(summaries)})
        if flags.reference:
            inputs["reference"] = flags.reference
        own = {**facts, "skipped": count_skipped(flags.labels), **figures, **changes}
        files.write_json(flags.json, provenance.describe(inputs, packages=("numpy",), **own))
    print(f"acc1:{figures['top1'] / 100:.4f}, acc5:{figures['top5'] / 100:.4f}")
    if flags.reference:
        cli.say(
            f"{changes['verdict']}: {changes['drop_points']:+.3f} points lost against {flags.reference}, 95% interval "
            f"{changes['drop_low_points']:+.3f} to {changes['drop_high_points']:+.3f}, margin {flags.margin_points:g}"
        )


def find_failure(folders: Iterable[Path]) -> dict[str, Any] | None:
    """The first record of infer.py that says why there are no results, None where every folder has some."""
    for folder in folders:
        path = folder.with_name(folder.name + "_summary.json")
        record = files.read_json(path, "the summary of infer.py") if path.exists() else {}
        if isinstance(record, dict) and isinstance(record.get("failed"), str) and isinstance(record.get("smlp"), dict):
            return record
    return None


def read_manifests(paths: Iterable[Path]) -> dict[str, Bin]:
    """Bins by their stem (the name up to the first dot, as ais_bench cuts it), in the order of the manifests.

    Raises UserError for a file that is no manifest, for an image or index that stands twice, and for bins whose
    results would have the same name.
    """
    bins: dict[str, Bin] = {}
    images: dict[str, Path] = {}
    indices: dict[int, Path] = {}
    for path in paths:
        for row in _rows(path, ("index", "bin", "image", "label"), "a manifest of preprocess.py"):
            image = Image(_whole(path, row, "index"), row["image"], _whole(path, row, "label"))
            for seen, value, column in ((images, image.image, "image"), (indices, image.index, "index")):
                if value in seen:
                    raise UserError(
                        f"{path}: {column} {value} is listed twice (also in {seen[value]}); give each shard once"
                    )
                seen[value] = path
            name = os.path.basename(row["bin"])
            held = bins.setdefault(name.split(".")[0], Bin(path, name, []))
            if (held.manifest, held.name) != (path, name):
                raise UserError(
                    f"{path}: bins {name} and {held.name} ({held.manifest}) share the stem {name.split('.')[0]}, "
                    "their results would overwrite each other; rename one and run the inference again"
                )
            held.images.append(image)
    if not bins:
        raise UserError(f"{', '.join(map(str, paths))}: no image is listed; there is nothing to score")
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
    """Result file -> stem of its bin, of ais_bench 0.0.1, which numbers results: sample_id_7_output_0.bin."""
    record = files.read_json(summary, "the summary of ais_bench 0.0.1") if summary.exists() else {}
    entries = record.get("filesinfo") if isinstance(record, dict) else None
    renamed = {}
    for entry in entries.values() if isinstance(entries, dict) else ():
        try:
            renamed[os.path.basename(entry["outfiles"][0])] = os.path.basename(entry["infiles"][0]).split(".")[0]
        except (KeyError, IndexError, TypeError, AttributeError):
            raise UserError(f"{summary}: its filesinfo is not what ais_bench writes; run the inference again") from None
    return renamed


def predict(
    bins: dict[str, Bin], results: dict[str, Path], num_classes: int | None
) -> tuple[list[Prediction], int | None]:
    """Rank every image's classes; one result file, or a block of a large one, is in memory at a time.

    num_classes: None takes it from the first result. Returns the predictions, by index, and num_classes. Raises
    UserError for a result that is not (images, classes) finite numbers, and for a label that is no class.
    """
    predictions: list[Prediction] = []
    first: tuple[Path, np.dtype] | None = None
    for stem, held in bins.items():
        path = results[stem]
        labels = np.array([image.label for image in held.images])
        done = 0
        for logits in read_logits(path, len(held.images), num_classes):
            if first is None:
                first = (path, logits.dtype)
                num_classes = logits.shape[1]
            if logits.dtype != first[1]:
                raise UserError(
                    f"{path}: holds {logits.dtype} where {first[0]} holds {first[1]}; they are of two runs, or it is "
                    "cut off; run the inference again"
                )
            if labels.max() >= logits.shape[1]:
                image = held.images[int(labels.argmax())]
                raise UserError(
                    f"{held.manifest}: image {image.image} has label {image.label} but the model has "
                    f"{logits.shape[1]} classes; score a model of this data set"
                )
            block = slice(done, done + len(logits))
            ranked = (values.tolist() for values in rank_labels(logits, labels[block]))
            predictions.extend(Prediction(*one, *scored) for one, *scored in zip(held.images[block], *ranked))
            done += len(logits)
    return sorted(predictions), num_classes


def rank_labels(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Top-1 class and the label's rank (0 = best) of every image; equal scores rank by class index, lowest first.

    logits: (N, classes), any monotonic score; labels: int (N,). Returns two int (N,).
    """
    own = logits[np.arange(len(labels)), labels][:, None]
    lower_index = np.arange(logits.shape[1]) < labels[:, None]
    return logits.argmax(axis=1), ((logits > own) | ((logits == own) & lower_index)).sum(axis=1)


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


def run_facts(folders: Iterable[Path], given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Path]]:
    """What is known about the run: from the summaries that infer.py left beside the result folders, and `given`.

    Returns the facts (None where unknown) and the summaries read. Raises UserError where shards, or the summaries
    and what is given, contradict each other; only a model label may rename.
    """
    summaries = {}
    for folder in folders:
        absolute = Path(os.path.abspath(folder))
        path = absolute.with_name(absolute.name + "_summary.json")
        summaries[path] = _summary_facts(path)
    (first, facts), *others = summaries.items()
    for path, found in others:
        for name in _FACTS:
            if facts[name] != found[name]:
                raise UserError(
                    f"{path}: {name} is {found[name]!r} where {first} has {facts[name]!r}; these are shards of "
                    "different runs (None: no summary by infer.py), score them one by one"
                )
    facts = dict(facts)
    for name, value in given.items():
        if name == "model_label":
            facts["model"] = value or facts["model"]
        elif facts[name] is None:
            facts[name] = value
        elif value not in (None, facts[name]):
            raise UserError(f"{first}: {name} is {facts[name]!r} but the flag says {value!r}; drop the flag")
    facts["emulated"] = bool(facts["emulated"])
    return facts, [path for path in summaries if path.exists()]


def _summary_facts(path: Path) -> dict[str, Any]:
    """The facts in one summary; all None where the real ais_bench wrote it, or nobody did."""
    record = files.read_json(path, "the summary of infer.py") if path.exists() else {}
    known = record.get("smlp", {}) if isinstance(record, dict) else {}
    engine = known.get("engine") if isinstance(known, dict) else None
    if not isinstance(known, dict) or not isinstance(known.get("num_classes", 1), int):
        raise UserError(f"{path}: its part 'smlp' is not what infer.py writes; run the inference again")
    found = {name: known.get(name) for name in _FACTS}
    found["engine_sha256"] = engine.get("sha256") if isinstance(engine, dict) else None
    return found


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


def score(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Accuracies in percent, with the 95% Wilson interval of top-1."""
    images = len(predictions)
    right = sum(prediction.rank == 0 for prediction in predictions)
    low, high = statistics.wilson_interval(right, images)
    return {
        "images": images,
        "top1": 100 * right / images,
        "top5": 100 * sum(prediction.rank < 5 for prediction in predictions) / images,
        "top1_wilson_low": 100 * low,
        "top1_wilson_high": 100 * high,
    }


_NO_REFERENCE = {
    "agreement": None,
    "flips_right_to_wrong": None,
    "flips_wrong_to_right": None,
    "mcnemar_p": None,
    "drop_points": None,
    "drop_low_points": None,
    "drop_high_points": None,
    "margin_points": None,
    "verdict": None,
    "flips": None,
}


def compare(predictions: Sequence[Prediction], reference_path: Path, margin_points: float) -> dict[str, Any]:
    """What the engine changed, image by image. `flips` lists every image whose top-1 class is another.

    Raises UserError unless the reference covers the same images with the same labels.
    """
    reference = read_predictions(reference_path)
    surplus = reference.keys() - {prediction.image for prediction in predictions}
    if surplus:
        raise UserError(
            f"{reference_path}: holds {len(surplus)} images that were not scored here, {min(surplus)} for one; "
            "make the reference from the same manifests"
        )
    flips = []
    for found in predictions:
        wanted = reference.get(found.image)
        if wanted is None:
            raise UserError(f"{reference_path}: lacks image {found.image}; make the reference from the same manifests")
        if wanted.label != found.label:
            raise UserError(
                f"{reference_path}: gives image {found.image} label {wanted.label} but the manifest {found.label}; "
                "make the reference from the same manifests"
            )
        if wanted.predicted != found.predicted:
            kind = "right_to_wrong" if wanted.rank == 0 else "wrong_to_right" if found.rank == 0 else "wrong_to_wrong"
            flips.append(
                {
                    "image": found.image,
                    "label": found.label,
                    "reference": wanted.predicted,
                    "predicted": found.predicted,
                    "kind": kind,
                }
            )
    drop = statistics.verdict(
        np.array([reference[found.image].rank == 0 for found in predictions]),
        np.array([found.rank == 0 for found in predictions]),
        margin_points,
    )
    return {
        "agreement": 100 * (len(predictions) - len(flips)) / len(predictions),
        "flips_right_to_wrong": drop.right_to_wrong,
        "flips_wrong_to_right": drop.wrong_to_right,
        "mcnemar_p": statistics.mcnemar_exact_p(drop.right_to_wrong, drop.wrong_to_right),
        "drop_points": drop.drop_points,
        "drop_low_points": drop.drop_low_points,
        "drop_high_points": drop.drop_high_points,
        "margin_points": margin_points,
        "verdict": drop.verdict,
        "flips": flips,
    }


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """One line an image, by index: index, image, label, predicted class, rank of the label."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(predictions)
    files.write_text(path, text.getvalue())


def read_predictions(path: Path) -> dict[str, Prediction]:
    """What `write_predictions` wrote, by image."""
    predictions: dict[str, Prediction] = {}
    for row in _rows(path, _COLUMNS, "a --predictions table of evaluate.py"):
        numbers = {column: _whole(path, row, column) for column in _COLUMNS if column != "image"}
        found = Prediction(image=row["image"], **numbers)
        if found.image in predictions or (found.rank == 0) != (found.predicted == found.label):
            raise UserError(f"{path}: contradicts itself about image {found.image}; evaluate the reference again")
        predictions[found.image] = found
    return predictions


def _rows(path: Path, columns: Sequence[str], what: str) -> Iterable[dict[str, str]]:
    """The lines of a CSV file that has at least these columns."""
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            lacking = [column for column in columns if column not in (reader.fieldnames or ())]
            if lacking:
                raise UserError(f"{path}: has no column {', '.join(lacking)}; {what} was expected")
            for row in reader:
                if None in row or None in row.values():
                    raise UserError(
                        f"{path}: line {reader.line_num} has not the header's number of fields; make it again"
                    )
                yield row
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is no CSV file ({error}); {what} was expected") from None


def _whole(path: Path, row: dict[str, str], column: str) -> int:
    # isascii: int() also takes the digits of other scripts, which no program of ours writes
    if not (row[column].isascii() and row[column].isdigit() and len(row[column]) < 19):
        raise UserError(f"{path}: {column} {row[column]!r} of image {row['image']} is not a whole number of at least 0")
    return int(row[column])


def _manifest(text: str) -> Path:
    path = Path(text)
    return path / "manifest.csv" if path.is_dir() else path


def _points(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of percentage points between 0 and 100")
    return value


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--infer_result_dir", type=Path, nargs="+", required=True, help="folders of results, one a shard or device"
    )
    parser.add_argument(
        "--labels",
        type=_manifest,
        nargs="+",
        required=True,
        help="manifest.csv of every shard, or its folder",
    )
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--predictions", type=Path, help="file for the prediction of every image")
    parser.add_argument("--reference", type=Path, help="the --predictions of the reference, to compare with")
    parser.add_argument("--margin_points", type=_points, default=1.0, help="top-1 drop that is still accepted")
    parser.add_argument("--num_classes", type=cli.positive_int, help="classes of the model; needed for .bin results")
    parser.add_argument("--model_label", help="the model's name in tables; the summary's unless given")
    parser.add_argument("--backend", help="runtime, where no summary says it")
    parser.add_argument("--precision", help="precision, where no summary says it")
    parser.add_argument("--batchsize", type=cli.positive_int, help="batch size, where no summary says it")
    parser.add_argument("--device", help="device, where no summary says it")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
