"""Labels under which a model that seems to guess would be right: found where they are, and nowhere else."""

import numpy as np
import pytest

from smlp.results import mislabelled

CLASSES = 40


def guesses(truth, right=0.8, classes=CLASSES, seed=0):
    """What a model predicts that is right on this share of the images."""
    random = np.random.default_rng(seed)
    return np.where(random.random(len(truth)) < right, truth, random.integers(0, classes, len(truth)))


def true_labels(images_per_class=10, classes=CLASSES):
    return np.repeat(np.arange(classes), images_per_class)


READINGS = {
    "one higher": (lambda label: label - 1, 1, "if every label were one higher, as behind a background class"),
    "one lower": (lambda label: label + 1, 1, "if every label were one lower, as if the label file counted from 1"),
    "sorted as text": (
        lambda label: np.argsort(sorted(range(CLASSES), key=str))[label],
        1,
        "if folders that are numbers had been sorted as numbers, not as text",
    ),
    "sorted as numbers": (
        lambda label: np.array(sorted(range(CLASSES), key=str))[label],
        1,
        "if folders that are numbers had been sorted as text, not as numbers",
    ),
    "from the end": (lambda label: CLASSES - 1 - label, 1, "if classes were counted from the last to the first"),
    "shifted": (lambda label: (label - 7) % CLASSES, 10, "if every label were higher by 7"),
    "exchanged": (
        lambda label: np.random.default_rng(1).permutation(CLASSES)[label],
        10,
        "if labels were exchanged (0 → ",
    ),
}


@pytest.mark.parametrize("name", READINGS)
def test_the_reading_that_would_be_right_is_found(name):
    wrong, images_per_class, words = READINGS[name]
    truth = true_labels(images_per_class)
    labels, predicted = wrong(truth), guesses(truth)
    kept = (labels >= 0) & (labels < CLASSES)
    found = mislabelled.better_labels(labels[kept], predicted[kept], CLASSES)
    assert words in found and found.endswith("% of the images")
    assert mislabelled.explain(labels[kept], predicted[kept], CLASSES) == f"{mislabelled.CAUSES}; {found}"


def test_some_of_a_thousand_classes_by_their_positions():
    """Imagenette: ten folders are labels 0 to 9, whatever classes they are."""
    chosen = np.array([0, 217, 482, 491, 497, 566, 569, 571, 574, 701])
    labels = true_labels(20, 10)
    found = mislabelled.better_labels(labels, guesses(chosen[labels], classes=1000), 1000)
    assert "if labels were exchanged (1 → 217, 2 → 482, 3 → 491, …)" in found


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
@pytest.mark.parametrize("images", [1, 2, 12, 500])
@pytest.mark.parametrize("kind", ["random", "constant", "of few classes"])
def test_a_model_that_guesses_finds_none(classes, images, kind):
    for seed in range(20):
        random = np.random.default_rng([seed, classes, images])
        labels = random.integers(0, classes, images)
        predicted = {
            "random": random.integers(0, classes, images),
            "constant": np.full(images, random.integers(classes)),
            "of few classes": random.integers(0, min(classes, 3), images),
        }[kind]
        assert mislabelled.better_labels(labels, predicted, classes) is None, seed


def test_one_image_of_each_class_cannot_be_fitted():
    """Any predictions are right under some permutation."""
    labels = np.arange(CLASSES)
    assert mislabelled.better_labels(labels, np.random.default_rng(0).permutation(CLASSES), CLASSES) is None


def test_many_images_are_looked_at_quickly():
    truth = true_labels(50, 1000)
    labels = np.random.default_rng(0).permutation(1000)[truth]
    assert "exchanged" in mislabelled.better_labels(labels, guesses(truth, classes=1000), 1000)
