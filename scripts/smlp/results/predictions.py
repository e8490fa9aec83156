"""From scores to what is predicted for every image, and the table that keeps it for comparisons. NumPy only."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..core import files
from ..core.cli import UserError
from . import outputs


class Prediction(NamedTuple):
    """predicted: top-1 class index; rank: position of the true label, 0 if top-1 is right."""

    index: int
    image: str
    label: int
    predicted: int
    rank: int


def predict(
    bins: Mapping[str, outputs.Bin], results: Mapping[str, Path], form: outputs.Form
) -> tuple[list[Prediction], int]:
    """Rank every image's classes; one result file, or a block of a large one, is in memory at a time.

    form: of the scores; what it does not say is that of the first result. Returns the predictions, by index, and the
    number of classes. Raises UserError for a result that is not (images, classes) finite numbers, for a label that is
    no class, and for scores that were rounded until the decisive ones were equal.
    """
    predictions: list[Prediction] = []
    first: tuple[Path, np.dtype] | None = None
    for stem, held in bins.items():
        path = results[stem]
        labels = np.array([row.label for row in held.rows])
        done = 0
        for logits in outputs.read_logits(path, len(held.rows), form):
            if first is None:
                first = (path, logits.dtype)
                form = form._replace(num_classes=logits.shape[1])
            if logits.dtype != first[1]:
                raise UserError(
                    f"{path}: holds {logits.dtype} where {first[0]} holds {first[1]}; they are of two runs, or it is "
                    "cut off; run the inference again"
                )
            if labels.max() >= logits.shape[1]:
                row = held.rows[int(labels.argmax())]
                raise UserError(
                    f"{held.manifest}: image {row.image} has label {row.label} but the model has "
                    f"{logits.shape[1]} classes; score a model of this data set"
                )
            block = slice(done, done + len(logits))
            if path.suffix == ".txt":
                _refuse_rounded_ties(path, logits, labels[block])
            ranked = (values.tolist() for values in rank_labels(logits, labels[block]))
            for row, predicted, rank in zip(held.rows[block], *ranked):
                predictions.append(Prediction(row.index, row.image, row.label, predicted, rank))
            done += len(logits)
    return sorted(predictions), form.num_classes


def labels_and_predicted(predictions: Sequence[Prediction]) -> tuple[np.ndarray, np.ndarray]:
    """The labels and the top-1 classes of these images, two int (images,)."""
    pairs = np.array([(found.label, found.predicted) for found in predictions], dtype=np.int64)
    return pairs[:, 0], pairs[:, 1]


def rank_labels(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Top-1 class and the label's rank (0 = best) of every image; equal scores rank by class index, lowest first.

    logits: (N, classes), any monotonic score; labels: int (N,). Returns two int (N,).
    """
    own = logits[np.arange(len(labels)), labels][:, None]
    lower_index = np.arange(logits.shape[1]) < labels[:, None]
    return logits.argmax(axis=1), ((logits > own) | ((logits == own) & lower_index)).sum(axis=1)


def _refuse_rounded_ties(path: Path, logits: np.ndarray, labels: np.ndarray) -> None:
    """Raise UserError if a text of six decimals has equal scores at the best place, or where the label is sixth or not.

    ais_bench writes %f: the small scores of a softmax become equal, and the lowest class index would win.
    """
    own = logits[np.arange(len(labels)), labels][:, None]
    better, equal = (logits > own).sum(axis=1), (logits == own).sum(axis=1) - 1
    best = (logits == logits.max(axis=1, keepdims=True)).sum(axis=1) > 1
    tied = best | ((better < 5) & (better + equal >= 5))
    words = path.read_text(encoding="ascii").split() if tied.any() else []
    if words and all(re.fullmatch(r"-?\d+\.\d{6}", word) for word in words):
        raise UserError(
            f"{path}: the decisive scores of line {int(tied.argmax()) + 1} are equal, as its six decimals have rounded "
            "them; run the inference again with --outfmt NPY or BIN"
        )


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """One line per image, by index: index, image, label, predicted class, rank of the label.

    Names that are not UTF-8 keep their bytes.
    """
    text = io.StringIO()
    plain = csv.writer(text, lineterminator="\n")
    # as in manifests: Python before 3.13 does not quote a carriage return, which ends a line for readers
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain.writerow(Prediction._fields)
    for prediction in predictions:
        (quoted if "\r" in prediction.image else plain).writerow(prediction)
    with files.whole_file(path) as partial:
        partial.write_bytes(text.getvalue().encode("utf-8", "surrogateescape"))


def read_predictions(path: Path) -> dict[str, Prediction]:
    """What `write_predictions` wrote, by image."""
    predictions: dict[str, Prediction] = {}
    for row in _rows(path):
        numbers = {column: _whole(path, row, column) for column in Prediction._fields if column != "image"}
        found = Prediction(image=row["image"], **numbers)
        if found.image in predictions or (found.rank == 0) != (found.predicted == found.label):
            raise UserError(f"{path}: contradicts itself about image {found.image}; evaluate the reference again")
        predictions[found.image] = found
    return predictions


def _rows(path: Path) -> Iterator[dict[str, str]]:
    """The lines of a table of predictions; it may have more columns."""
    what = "a --predictions table of evaluate.py"
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            lacking = [column for column in Prediction._fields if column not in (reader.fieldnames or ())]
            if lacking:
                raise UserError(f"{path}: has no column {', '.join(lacking)}; {what} was expected")
            for row in reader:
                if None in row or None in row.values():
                    raise UserError(
                        f"{path}: line {reader.line_num} has not the header's number of fields; make it again"
                    )
                yield row
    except csv.Error as error:
        raise UserError(f"{path}: is no CSV file ({error}); {what} was expected") from None


def _whole(path: Path, row: dict[str, str], column: str) -> int:
    # isascii: int() also takes the digits of other scripts, which no program of ours writes
    if not (row[column].isascii() and row[column].isdigit() and len(row[column]) < 19):
        raise UserError(f"{path}: {column} {row[column]!r} of image {row['image']} is not a whole number of at least 0")
    return int(row[column])
