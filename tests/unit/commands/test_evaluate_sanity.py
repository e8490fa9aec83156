"""When a comparison with the reference means nothing, and evaluate.py says so in place of a verdict."""

import json

import numpy as np
import pytest

from smlp.results import comparison, mislabelled, statistics

IMAGES = 400


@pytest.fixture
def compared(tmp_path, evaluate, write_manifest, write_result):
    """compared(labels, reference, engine, classes): the figures of an engine's classes beside the reference's."""

    def report(labels, reference, engine, classes):
        manifest = write_manifest(tmp_path / "manifest.csv", {"b-0.bin": [int(label) for label in labels]})
        given = ["--labels", str(manifest), "--infer_result_dir"]
        table, figures = tmp_path / "reference.csv", tmp_path / "engine.json"
        for name, predicted, more in (
            ("reference", reference, ["--predictions", str(table)]),
            ("engine", engine, ["--reference", str(table), "--json", str(figures)]),
        ):
            write_result(tmp_path / name / "b-0_0.npy", np.eye(classes, dtype=np.float32)[predicted])
            assert evaluate.main([*given, str(tmp_path / name), *more]) == 0
        return json.loads(figures.read_text())

    return report


def test_an_engine_that_computes_noise_gets_no_verdict_beside_a_reference_that_is_always_wrong(compared, capsys):
    """Ten of a thousand classes by the positions of their folders: nothing is right, so that nothing can be lost."""
    random = np.random.default_rng(0)
    labels, reference = np.arange(IMAGES) % 10, random.integers(10, 1000, IMAGES)
    report = compared(labels, reference, random.integers(10, 1000, IMAGES), 1000)
    assert report["agreement"] < 2 and report["drop_high_points"] < 1  # it would pass
    assert report["verdict"] is None
    assert report["verdict_reason"] == (
        "the reference itself has only 0 % top-1; of 1000 classes up to 0.2 % is too close to guessing, nothing can be "
        f"lost; {mislabelled.CAUSES}"
    )
    assert "no verdict: +0.000 points lost" in capsys.readouterr().err


def test_an_engine_that_agrees_on_less_than_half_of_the_images_fails(compared):
    """It loses nothing: where the reference is wrong, it is wrong otherwise."""
    labels = np.zeros(IMAGES, int)
    reference, engine = np.zeros(IMAGES, int), np.zeros(IMAGES, int)
    reference[160:], engine[160:] = 1, 2
    report = compared(labels, reference, engine, 10)
    assert (report["agreement"], report["drop_points"]) == (40.0, 0.0)
    assert report["noninferiority_p"] < 0.025  # by the drop alone it would pass
    assert report["verdict"] == "fail"
    assert report["verdict_reason"] == "only 40 % of the images have the reference's top-1 class, less than half"


@pytest.mark.parametrize("right, verdict", [(80, None), (81, "pass")])
def test_the_limit_is_twice_chance(compared, right, verdict):
    labels = np.zeros(IMAGES, int)
    same = np.where(np.arange(IMAGES) < right, 0, 1)
    report = compared(labels, same, same, 10)
    assert report["verdict"] == verdict and (report["verdict_reason"] is None) == (verdict is not None)


def test_any_other_verdict_stays():
    for verdict in ("pass", "fail", "undecided"):
        assert comparison.judge(verdict, 81.7, 50.0, 1000) == (verdict, None)


def test_the_p_values_are_those_of_the_drop(compared):
    labels = np.zeros(IMAGES, int)
    engine = np.where(np.arange(IMAGES) < 30, 1, 0)
    report = compared(labels, labels, engine, 10)
    found = report["noninferiority_p"], report["inferiority_p"]
    assert found == statistics.paired_p_values(30, 0, IMAGES, 0.01)
    assert report["verdict"] == "fail" and found[1] < 0.025
