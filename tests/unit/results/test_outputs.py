"""Whose results a folder holds, and what is known about their run."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from smlp.core import cli
from smlp.core.runs import RunFacts
from smlp.results import outputs


@pytest.mark.parametrize("name", ["backend", "precision", "batch", "device", "model", "emulated"])
def test_shards_of_different_runs_are_refused(run, name, make_run):
    run.write_summary()
    other = make_run(run.root / "other", seed=1)
    other.results = other.results.rename(other.results.with_name("bs2"))
    path = other.write_summary(**{name: "another"})
    shards = [str(run.results), str(other.results)]
    with pytest.raises(cli.UserError, match=f"{name} is 'another' where"):
        outputs.run_facts(map(Path, shards), RunFacts())
    path.unlink()
    with pytest.raises(cli.UserError, match="no summary by infer.py"):
        outputs.run_facts(map(Path, shards), RunFacts())


def test_a_flag_that_contradicts_the_summary_is_refused(run, assert_refused):
    path = run.write_summary()
    assert_refused(run.flags("--backend", "onnxruntime"), path, "'openvino'", "'onnxruntime'")
    assert_refused(run.flags("--batchsize", 4), path, "batch is 8")


@pytest.mark.parametrize("text", ["{", '{"smlp": 3}', '{"smlp": {"num_classes": "10"}}'])
def test_a_damaged_summary_is_refused(run, text, assert_refused):
    path = run.write_summary()
    path.write_text(text)
    assert_refused(run.flags(), path)


def test_a_variant_comes_from_the_summary(run, evaluated):
    assert "variant" not in evaluated(run)
    run.write_summary(variant="opset17")
    assert evaluated(run)["variant"] == "opset17"
    assert evaluated(run, "--variant", "opset17")["variant"] == "opset17"


def test_a_variant_is_given_only_for_results_of_which_no_summary_tells(run, evaluated, assert_refused):
    path = run.write_summary()
    assert_refused(run.flags("--variant", "opset17"), path, "variant is ''", "'opset17'")
    path.unlink()
    assert evaluated(run, "--variant", "opset17")["variant"] == "opset17"


def test_shards_of_different_variants_are_refused(run, make_run):
    run.write_summary(variant="opset17")
    other = make_run(run.root / "other", seed=1)
    other.results = other.results.rename(other.results.with_name("bs2"))
    path = other.write_summary()
    with pytest.raises(cli.UserError, match=f"{path}: variant is '' where"):
        outputs.run_facts([run.results, other.results], RunFacts())


ODD = os.fsdecode(b"caf\xe9.JPEG")


@pytest.mark.parametrize("image", [ODD, "carriage\rreturn.JPEG", "\u00fcnic\u00f6de \U0001f408.JPEG"])
def test_images_of_any_name_are_scored_and_compared(run, evaluate, evaluated, image):
    """Names that are not UTF-8 keep their bytes in the table of predictions."""
    lines = run.manifest.read_text().splitlines()
    old = f"{run.labels[3]}_class/val, 3.JPEG"
    assert old in lines[4]
    lines[4] = lines[4].replace(old, image)
    run.manifest.write_bytes("\n".join([*lines, ""]).encode("utf-8", "surrogateescape"))
    table = run.root / "predictions.csv"
    report = evaluated(run, "--predictions", table)
    assert report["images"] == 12 and report["top1"] == pytest.approx(100 * run.top(1))
    assert os.fsencode(image) in table.read_bytes()

    wrong = int(run.logits[3].argmin())
    run.logits[3, wrong] = 100
    np.save(run.result(3), run.logits[3:4])
    flips = evaluated(run, "--reference", table)["flips"]
    assert [(flip["image"], flip["predicted"]) for flip in flips] == [(image, wrong)]


def test_a_byte_order_mark_before_manifest_and_reference_is_no_part_of_them(run, evaluated):
    table = run.root / "predictions.csv"
    plain = evaluated(run, "--predictions", table)
    for path in (run.manifest, table):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    marked = evaluated(run, "--reference", table)
    assert (marked["top1"], marked["agreement"]) == (plain["top1"], 100)


def test_a_manifest_needs_no_more_than_four_columns(run, evaluated):
    whole = evaluated(run)
    with open(run.manifest, newline="") as stream:
        rows = [[row[name] for name in ("index", "bin", "image", "label")] for row in csv.DictReader(stream)]
    with open(run.manifest, "w", newline="") as stream:
        csv.writer(stream).writerows([["index", "bin", "image", "label"], *rows])
    assert evaluated(run)["top1"] == whole["top1"]


def test_results_that_ais_bench_numbered_belong_to_the_bins_it_names(run, evaluated):
    whole = evaluated(run)
    filesinfo = {}
    for index in range(12):
        numbered = run.results / f"sample_id_{11 - index}_output_0.npy"
        run.result(index).rename(numbered)
        filesinfo[str(index)] = {"infiles": [f"bins/batch-{index:05d}.bin"], "outfiles": [str(numbered)]}
    (run.results / "sumary.json").write_text(json.dumps({"filesinfo": filesinfo}))
    assert evaluated(run)["top1"] == whole["top1"]


@pytest.mark.parametrize("entry", [{}, {"infiles": [], "outfiles": []}, {"infiles": 3, "outfiles": [3]}, [], None])
def test_a_summary_that_names_no_files_is_refused(run, assert_refused, entry):
    (run.results / "sumary.json").write_text(json.dumps({"filesinfo": {"0": entry}}))
    assert_refused(run.flags(), "sumary.json: its filesinfo is not what ais_bench writes")


def test_the_transform_is_that_of_all_shards_or_an_error(tmp_path):
    def manifest(shard, words):
        (tmp_path / f"{shard}.json").write_text(json.dumps({"transform_words": words} if words else {}))
        return tmp_path / shard / "manifest.csv"

    same, again = manifest("shard-0", "resize 256"), manifest("shard-1", "resize 256")
    assert outputs.transform_of([same, again]) == "resize 256"
    assert outputs.transform_of([same, manifest("theirs", None)]) is None
    with pytest.raises(
        cli.UserError, match="went through 'resize 224'.* through 'resize 256'; give the manifests of one"
    ):
        outputs.transform_of([same, manifest("other", "resize 224")])
