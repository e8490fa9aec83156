"""Sweeps from end to end: the demo twice, and somebody's own files in every form that they may have."""

import csv
import json
import shutil

import jsonschema
import numpy as np
import pytest
import yaml

from smlp.workflow import plan

CELLS = [("tiny", backend, "fp32", str(batch)) for backend in ("pytorch", "onnxruntime") for batch in (1, 4)]
RETRIEVED = {"retrieve_dataset": 1, "retrieve_checkpoint": 1}
EXPORTED = {**RETRIEVED, "export_onnx": 1}
COMPILED = {**EXPORTED, "compile_onnxruntime": 2}
PREPROCESSED = {"retrieve_dataset": 1, "preprocess_shard": 3}
# every cell and the reference, each in three shards; the reference has a batch size of its own
EVALUATED = {**COMPILED, **PREPROCESSED, "infer_shard": 15, "evaluate_reference": 1, "evaluate_engine": 4}


def table(project, name):
    with open(project.folder / "results" / "tables" / f"{name}.csv", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def cells(rows):
    return [(row["model"], row["backend"], row["precision"], row["batch"]) for row in rows]


def figures(rows):
    return {(row["top1_percent"], row["top5_percent"]) for row in rows}


def manifest(project, dataset):
    """Rows of all shards' manifests, and the stems of their bins by shard."""
    rows, bins = [], {}
    for path in sorted((project.folder / "results" / "preprocess" / dataset).glob("*/*/manifest.csv")):
        with open(path, encoding="utf-8", newline="") as stream:
            shard = list(csv.DictReader(stream))
        rows += shard
        bins[path.parent.name] = {row["bin"].partition(".")[0] for row in shard}
    return rows, bins


def images_of(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.glob("val/*/*"))


def test_the_tables_have_a_row_for_every_cell(finished_demo):
    accuracy, throughput = table(finished_demo, "accuracy"), table(finished_demo, "throughput")
    assert cells(accuracy) == CELLS
    assert cells(throughput) == CELLS
    assert {row["images"] for row in accuracy} == {"24"}
    assert {row["skipped"] for row in accuracy} == {"0"}
    assert "skipped" not in (finished_demo.folder / "results" / "tables" / "accuracy.md").read_text(encoding="utf-8")
    assert len(figures(accuracy)) == 1
    assert all(float(row["images_per_s"]) > 0 for row in throughput)
    assert {row["emulated"] for row in accuracy + throughput} == {"false"}


def test_every_table_plot_and_report_is_there(finished_demo):
    made = finished_demo.contents("tables/*")
    starts = {
        "accuracy.csv": b"model,",
        "accuracy.md": b"## Accuracy",
        "accuracy.parquet": b"PAR1",
        "answer.md": b"# Answer\n\n## tiny on cpu",
        "decision.csv": b"rule,",
        "decision.parquet": b"PAR1",
        "flips.csv": b"model,",
        "flips.parquet": b"PAR1",
        "latency.png": b"\x89PNG",
        "latency.svg": b"<?xml",
        "profile.csv": b"model,",
        "profile.md": b"nothing was profiled",
        "profile.parquet": b"PAR1",
        "report.html": b"<!DOCTYPE html>",
        "roofline.png": b"\x89PNG",
        "roofline.svg": b"<?xml",
        "throughput.csv": b"model,",
        "throughput.md": b"## Throughput: tiny, images/s\n\n| batch size | ",
        "throughput.parquet": b"PAR1",
        "throughput.png": b"\x89PNG",
        "throughput.svg": b"<?xml",
        "tradeoff.png": b"\x89PNG",
        "tradeoff.svg": b"<?xml",
    }
    assert sorted(made) == [f"results/tables/{name}" for name in starts]
    for name, start in starts.items():
        assert made[f"results/tables/{name}"].startswith(start), name


def undocumented(content, properties):
    """Keys of a result file that the schema does not describe, also inside mappings."""
    found = [key for key in content if key not in properties]
    for key, schema in properties.items():
        if "properties" in schema and isinstance(content.get(key), dict):
            found += [f"{key}.{inner}" for inner in undocumented(content[key], schema["properties"])]
    return found


def test_result_files_have_the_documented_format_and_no_other_keys(finished_demo):
    schema = yaml.safe_load((finished_demo.folder / "resources" / "results.schema.yaml").read_text(encoding="utf-8"))
    _, measured, _ = schema["oneOf"]
    accuracy, throughput = (schema["$defs"][part]["properties"] for part in ("accuracy", "throughput"))
    whole = {**measured["properties"], "smlp": {"properties": throughput}}
    for pattern, properties, files in (("evaluate/*/*/*/*/bs*.json", accuracy, 4), ("measure/**/*.json", whole, 8)):
        paths = list((finished_demo.folder / "results").glob(pattern))
        assert len(paths) == files
        for path in paths:
            content = json.loads(path.read_text(encoding="utf-8"))
            jsonschema.Draft202012Validator(schema).validate(content)
            assert undocumented(content, properties) == [], path


def test_coverage_equals_the_manifest_and_the_images(finished_demo):
    rows, bins = manifest(finished_demo, "digits")
    assert [row["image"] for row in rows] == images_of(finished_demo.folder / "results" / "retrieve" / "digits")
    assert [row["index"] for row in rows] == [str(index) for index in range(24)]
    assert {name: len(stems) for name, stems in bins.items()} == {"shard-0": 8, "shard-1": 8, "shard-2": 8}
    infer = finished_demo.folder / "results" / "infer" / "tiny"
    runs = sorted(str(path.relative_to(infer)) for path in infer.glob("*/*/digits/bs*"))
    of_pytorch = [f"pytorch/fp32/digits/bs{batch}" for batch in (1, 4, 8)]
    assert runs == [f"onnxruntime/fp32/digits/bs{batch}" for batch in (1, 4)] + of_pytorch
    for run in runs:
        for shard, stems in bins.items():
            outputs = {path.name for path in (infer / run / shard).iterdir()} - {".snakemake_timestamp"}
            assert outputs == {f"{stem}_0.npy" for stem in stems}
            for name in outputs:
                logits = np.load(infer / run / shard / name, allow_pickle=False)
                assert logits.shape == (1, 10)
                assert np.isfinite(logits).all()


def test_batch_sizes_are_read_back_from_the_engines(finished_demo):
    compiled = finished_demo.folder / "results" / "compile" / "tiny" / "onnxruntime" / "fp32"
    assert {path.name for path in compiled.iterdir()} == {"bs1.json", "bs1.onnx", "bs4.json", "bs4.onnx"}
    assert [json.loads((compiled / f"bs{batch}.json").read_text())["batch"] for batch in (1, 4)] == [1, 4]


def test_nothing_half_written_is_left(finished_demo):
    assert finished_demo.scratch() == []


def test_a_second_run_does_nothing(demo_sweep):
    before = demo_sweep.contents("**/*")
    assert "Nothing to be done" in demo_sweep.sweep()
    assert demo_sweep.contents("**/*") == before


def test_two_runs_from_scratch_agree_byte_for_byte(demo, finished_demo):
    demo.sweep()
    patterns = ["retrieve/**/*.JPEG", "**/*.pth", "**/*.onnx", "**/*.bin", "**/manifest.csv", "infer/**/*.npy"]
    patterns += ["evaluate/**/*.csv", "tables/accuracy.*", "tables/flips.csv"]
    first, second = finished_demo.contents(*patterns), demo.contents(*patterns)
    assert len(first) == 44 + 1 + 3 + 24 + 3 + 15 * 8 + 1 + 4
    assert sorted(first) == sorted(second)
    assert [path for path in first if first[path] != second[path]] == []


PLANNED = {
    "retrieve": RETRIEVED,
    "export": EXPORTED,
    "compile": COMPILED,
    "preprocess": PREPROCESSED,
    "infer": {**COMPILED, **PREPROCESSED, "infer_shard": 12},
    "evaluate": EVALUATED,
    "ceilings": {},  # the demo of the tests measures none
    "measure": {**COMPILED, "preprocess_shard": 1, "measure_load": 4, "measure_engine": 4},
    "confirm": {},  # nor confirms anything
    "sustain": {},  # nor runs anything for minutes
    "profile": {},  # nor profiles anything
    "tabulate": {**EVALUATED, "measure_load": 4, "measure_engine": 4, "tabulate": 1},
}


@pytest.mark.parametrize("stage", plan.STAGES)
def test_every_stage_is_a_target(demo, stage):
    assert demo.planned(stage) == PLANNED[stage]


def test_own_images_in_class_folders_with_one_cut_off(finished_users):
    """The image that cannot be read is left out everywhere, and every table says so."""
    truncated = "val/3_three/val_00000013.JPEG"
    rows, bins = manifest(finished_users, "photos")
    everything = images_of(finished_users.folder / "my images")
    assert [row["image"] for row in rows] == [image for image in everything if image != truncated]
    assert {name: len(stems) for name, stems in bins.items()} == {"shard-0": 8, "shard-1": 7, "shard-2": 8}
    sidecar = finished_users.folder / "results" / "preprocess" / "photos" / "test_resnet" / "shard-1.json"
    assert [skipped["image"] for skipped in json.loads(sidecar.read_text())["skipped"]] == [truncated]
    accuracy = table(finished_users, "accuracy")
    assert cells(accuracy) == [("mine", "pytorch", "fp32", "1"), ("mine", "onnxruntime", "fp32", "1")]
    assert {(row["images"], row["skipped"]) for row in accuracy} == {("23", "1")}
    tables = finished_users.folder / "results" / "tables"
    for name in ("accuracy.md", "report.html"):
        assert "skipped" in (tables / name).read_text(encoding="utf-8"), name


def test_own_images_in_one_folder_and_a_ready_made_onnx_file(new_project, finished_demo):
    """The same images and network as the demo's, so the same figures; ONNX Runtime's own run is the reference."""
    settings = {
        "models": {"theirs": {"model_name": "test_resnet", "onnx": "their model.onnx"}},
        "dataset": {"name": "flat", "root": "my images", "shards": 2},
        "targets": [{"backend": "onnxruntime"}],
        "batch_sizes": [4],
        "measure": finished_demo.settings["measure"],
    }
    project = new_project(settings)
    results = finished_demo.folder / "results"
    shutil.copy2(results / "export" / "tiny" / "reference.onnx", project.folder / "their model.onnx")
    flat = project.folder / "my images" / "val"
    flat.mkdir(parents=True)
    labels = []
    for image in sorted((results / "retrieve" / "digits" / "val").glob("*/*")):
        shutil.copy2(image, flat)
        labels.append(f"{image.name} {image.parent.name.partition('_')[0]}\n")
    (flat.parent / "val_label.txt").write_text("".join(labels))
    project.sweep()
    rows = table(project, "accuracy")
    assert cells(rows) == [("theirs", "onnxruntime", "fp32", "4")]
    assert rows[0]["is_reference"] == "true"
    assert (rows[0]["images"], rows[0]["skipped"]) == ("24", "0")
    assert figures(rows) == figures(table(finished_demo, "accuracy"))
    assert cells(table(project, "throughput")) == cells(rows)
    assert not (project.folder / "results" / "retrieve" / "theirs" / "checkpoint.pth").exists()
    assert project.planned() == {}
