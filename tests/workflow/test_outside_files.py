"""Files from outside that other ones replace, with older times: an ONNX file, calibration images, imported results."""

import importlib.util
import json
import os
import shutil
import sys

import pytest

CELL = "onnxruntime/int8/bs1"
EVALUATED = {"evaluate_engine": 1, "tabulate": 1}


@pytest.fixture(scope="module")
def swept(make_project, finished_users):
    """A finished sweep of an ONNX file whose int8 results at batch size 1 are ais_bench's."""
    project = make_project(finished_users)
    results = project.folder / "results"
    shutil.copy2(results / "export/mine/reference.onnx", project.folder / "mine.onnx")
    shutil.copytree(project.folder / "my images/val", project.folder / "my images/train")
    for number, path in enumerate(sorted((project.folder / "my images/train").glob("*/*"))):
        with open(path, "ab") as stream:  # behind the end of the image: another file with the same pixels
            stream.write(b"%d" % number)
    there = project.folder / "theirs/mine" / CELL
    shutil.copytree(results / "infer/mine/onnxruntime/fp32/photos/bs1", there)
    for path in there.glob("*_summary.json"):
        summary = json.loads(path.read_text())
        del summary["smlp"]
        path.write_text(json.dumps(summary))
    for stage in ("infer", "compile", "evaluate", "measure", "export", "tables"):
        shutil.rmtree(results / stage)
    project.configure(
        {
            **project.settings,
            "models": {"mine": {"model_name": "test_resnet", "num_classes": 10, "onnx": "mine.onnx"}},
            "targets": [{"backend": "onnxruntime", "precision": ["fp32", "int8"]}],
            "batch_sizes": [1, 2],
            "calibration": {"images": 4},
            "infer": {"import": "theirs"},
        }
    )
    project.sweep()
    return project


@pytest.fixture
def project(swept, new_project):
    """A copy, and every file from outside is as old as can be."""
    project = new_project(swept)
    for place in ("my images", "theirs"):
        for path in (project.folder / place).rglob("*"):
            os.utime(path, (1_000_000_000, 1_000_000_000))
    os.utime(project.folder / "mine.onnx", (1_000_000_000, 1_000_000_000))
    assert project.planned() == {}
    return project


def older(path, content):
    """Other content of a file whose times do not show it."""
    path.write_bytes(content)
    os.utime(path, (1_000_000_000, 1_000_000_000))


def test_another_onnx_file(project):
    import onnx

    model = onnx.load(project.folder / "mine.onnx")
    model.doc_string = "another"
    older(project.folder / "mine.onnx", model.SerializeToString())
    planned = project.planned()
    assert planned["retrieve_onnx"] == planned["export_onnx"] == 1 and planned["compile_onnxruntime"] == 3


def test_another_imported_output_is_scored_again(project):
    outputs = sorted((project.folder / "theirs/mine" / CELL / "shard-1").glob("*.npy"))
    older(outputs[0], outputs[1].read_bytes())
    assert project.planned() == EVALUATED
    project.sweep()
    assert project.planned() == {}


def test_another_imported_summary(project):
    path = project.folder / "theirs/mine" / CELL / "shard-0_summary.json"
    older(path, path.read_bytes() + b"\n")
    assert project.planned() == {"measure_import": 1, **EVALUATED}


def test_another_calibration_image(project):
    """Of those that were drawn, and of no others."""
    manifest = project.folder / "results/preprocess/photos/test_resnet/calibration/manifest.csv"
    drawn = {line.split(",")[2] for line in manifest.read_text().splitlines()[1:]}
    images = sorted((project.folder / "my images/train").glob("*/*"))
    others = [path for path in images if str(path.relative_to(project.folder / "my images")) not in drawn]
    assert len(images) == len(others) + 4
    older(others[0], others[0].read_bytes() + b"x")
    assert project.planned() == {}
    image = project.folder / "my images" / min(drawn)
    older(image, image.read_bytes() + b"x")
    planned = project.planned()
    assert planned["preprocess_calibration"] == 1 and planned["compile_onnxruntime"] == 1


def test_timms_own_settings_of_a_model(project, tmp_path):
    """As where its version stays the same: somebody edited the package."""
    copy = tmp_path / "timm"
    (installed,) = importlib.util.find_spec("timm").submodule_search_locations
    shutil.copytree(installed, copy, ignore=shutil.ignore_patterns("__pycache__"))
    project.environment["PYTHONPATH"] += os.pathsep + str(tmp_path)
    project.python = sys.executable  # a fork has timm already
    assert project.planned() == {}
    with open(copy / "models" / "resnet.py", "a") as stream:
        stream.write("\n# other settings\n")
    planned = project.planned()
    assert planned["preprocess_shard"] == 3 and planned["export_onnx"] == planned["preprocess_calibration"] == 1
