"""Why a model may be no better than guessing: the labels under which it would be right, if some stand out. NumPy only.

Scores that are no better than chance have one of few causes, and most of them move labels in one way for all images.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from . import statistics

# A reading stands out if the model is surely right under it on more images than this share, and on so many.
_SHARE = 0.2
_HITS = 5
_SHOWN = 3

CAUSES = (
    "check labels (dataset.classes if the images have some of the model's classes or other names, dataset.order, "
    "dataset.background_class for a model of 1,001 classes), weights, and preprocessing"
)


def explain(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> str:
    """What to look at if the predicted classes are no better than guessing, and what labels would make them right.

    labels, predicted: int (images,), indices below num_classes.
    """
    found = better_labels(labels, predicted, num_classes)
    return f"{CAUSES}; {found}" if found else CAUSES


def better_labels(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> str | None:
    """The other reading of the labels under which most predictions are right, in words; None if none stands out."""
    for hits, words in _readings(labels, predicted, num_classes):
        low, _ = statistics.wilson_interval(int(hits.sum()), len(hits))
        if hits.sum() >= _HITS and 100 * low > max(statistics.chance_limit_percent(num_classes), 100 * _SHARE):
            return f"{words}, it would be right on {100 * hits.mean():.4g} % of the images"
    return None


def _readings(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> Iterator[tuple[np.ndarray, str]]:
    """Which predictions are right under other readings of the labels; what is fitted is judged on other images."""
    yield predicted == labels + 1, "if every label were one higher, as behind a background class"
    yield predicted == labels - 1, "if every label were one lower, as if the label file counted from 1"
    by_text = np.array(sorted(range(num_classes), key=str))
    yield predicted == by_text[labels], "if folders that are numbers had been sorted as numbers, not as text"
    yield by_text[predicted] == labels, "if folders that are numbers had been sorted as text, not as numbers"
    yield predicted == num_classes - 1 - labels, "if classes were counted from the last to the first"
    shifted, exchanged = np.zeros((2, len(labels)), bool)
    for half in _halves(labels):
        counts = np.bincount((predicted - labels)[~half] % num_classes, minlength=num_classes)
        shifted[half] = (predicted - labels)[half] % num_classes == counts.argmax()
        exchanged[half] = predicted[half] == _matched(labels[~half], predicted[~half], num_classes)[labels[half]]
    common = np.bincount((predicted - labels) % num_classes).argmax()
    yield shifted, f"if every label were higher by {common}"
    matched = _matched(labels, predicted, num_classes)
    shown = [f"{label} → {matched[label]}" for label in np.unique(labels) if matched[label] not in (-1, label)]
    yield exchanged, f"if labels were exchanged ({', '.join(shown[:_SHOWN])}{', …' * (len(shown) > _SHOWN)})"


def _halves(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two halves of the images, each with every second image of every class: bool (images,)."""
    order = np.argsort(labels, kind="stable")
    # how many images of its class come before each
    sorted_labels = labels[order]
    place = np.empty(len(labels), int)
    place[order] = np.arange(len(labels)) - np.searchsorted(sorted_labels, sorted_labels)
    half = place % 2 == 0
    return half, ~half


def _matched(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """For every label the class that most of its images get, no class twice: int (classes,), -1 if not known."""
    pairs, counts = np.unique(labels.astype(np.int64) * num_classes + predicted, return_counts=True)
    found = np.full(num_classes, -1)
    taken = np.zeros(num_classes, bool)
    for pair in pairs[np.argsort(-counts, kind="stable")]:
        label, guess = divmod(int(pair), num_classes)
        if found[label] < 0 and not taken[guess]:
            found[label], taken[guess] = guess, True
    return found
