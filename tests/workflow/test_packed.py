"""One array a shard, float32 or bytes: the same figures as one file an image, image by image."""

import csv
import json

import numpy as np
import pytest

# The fp32 engines of ONNX Runtime, whose graph gets the normalisation, may round differently; nothing else may.
CELLS = {"pytorch": (4, 8), "onnxruntime": (4,)}


def packed(project, pixels):
    settings = {**project.settings, "batch_sizes": [4]}
    project.configure({**settings, "dataset": {**settings["dataset"], "layout": "packed", "pixels": pixels}})
    return project


def logits(project, backend, batch):
    """Of every image, in the order of the manifests; and the manifests' rows without the column `bin`."""
    scores, rows = [], []
    for shard in range(3):
        folder = project.folder / "results" / "infer" / "tiny" / backend / "fp32" / "digits" / f"bs{batch}"
        manifest = (
            project.folder / "results" / "preprocess" / "digits" / "test_resnet" / f"shard-{shard}" / "manifest.csv"
        )
        with open(manifest, encoding="utf-8", newline="") as stream:
            own = list(csv.DictReader(stream))
        for name in dict.fromkeys(row.pop("bin") for row in own):
            scores.append(np.load(folder / f"shard-{shard}" / f"{name.partition('.')[0]}_0.npy", allow_pickle=False))
        rows += own
    return np.concatenate(scores), rows


def evaluated(project, backend, batch):
    path = project.folder / "results" / "evaluate" / "tiny" / backend / "fp32" / "digits" / f"bs{batch}.json"
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("pixels", ["float32", "uint8"])
def test_a_packed_sweep_gives_the_figures_of_one_file_an_image(demo_sweep, finished_demo, pixels):
    project = packed(demo_sweep, pixels)
    planned = project.planned()
    engines = {"export_uint8": 1, "compile_onnxruntime": 1} if pixels == "uint8" else {}
    assert planned == {
        **{"preprocess_shard": 3, "infer_shard": 9, "evaluate_reference": 1, "evaluate_engine": 2},
        **{"measure_load": 2, "measure_engine": 2, "tabulate": 1, **engines},
    }
    project.sweep("evaluate", "results/measure/tiny/onnxruntime/fp32/bs4.json")
    assert project.planned("evaluate") == {}

    image_bytes = 160 * 160 * 3 * (1 if pixels == "uint8" else 4)
    for shard in range(3):
        folder = project.folder / "results" / "preprocess" / "digits" / "test_resnet" / f"shard-{shard}"
        array = folder / f"images-{8 * shard:05d}.npy"
        others = {"manifest.csv", ".snakemake_timestamp"} | ({"pixels.json"} if pixels == "uint8" else set())
        assert {path.name for path in folder.iterdir()} == {array.name} | others
        assert array.stat().st_size == 128 + 8 * image_bytes
        for backend, batches in CELLS.items():
            for batch in batches:
                infer = project.folder / "results" / "infer" / "tiny" / backend / "fp32" / "digits" / f"bs{batch}"
                names = {path.name for path in (infer / f"shard-{shard}").iterdir()} - {".snakemake_timestamp"}
                assert names == {f"images-{8 * shard:05d}_0.npy"}

    for backend, batches in CELLS.items():
        for batch in batches:
            mine, rows = logits(project, backend, batch)
            theirs, their_rows = logits(finished_demo, backend, batch)
            assert rows == their_rows
            if backend == "pytorch" or pixels == "float32":
                np.testing.assert_array_equal(mine, theirs)
            else:
                np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-4 * max(1, np.abs(theirs).max()))
            if (backend, batch) != ("pytorch", 8):
                mine, theirs = evaluated(project, backend, batch), evaluated(finished_demo, backend, batch)
                assert mine["flips"] == theirs["flips"] == []
                for figure in ("images", "top1", "top5", "agreement", "verdict"):
                    assert mine[figure] == theirs[figure], figure
    facts = json.loads((project.folder / "results/compile/tiny/onnxruntime/fp32/bs4.json").read_text())
    assert facts["inputs"]["source"]["path"].endswith("reference_uint8.onnx" if pixels == "uint8" else "reference.onnx")
