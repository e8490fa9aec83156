"""What a sweep lacks of its data is said before the first job, and by a dry run as well."""

import pytest
from data_layouts import put, samples_of, tars_per_class

OWN = {
    "models": {"mine": {"model_name": "test_resnet", "checkpoint": "weights.pth"}},
    "dataset": {"name": "photos", "root": "my images"},
    "targets": [{"backend": "onnxruntime", "precision": ["fp32", "int8"]}],
    "batch_sizes": [1],
}


@pytest.mark.parametrize("flags", [["--dry-run"], []], ids=["dry run", "run"])
def test_missing_training_images_are_said_before_any_work(new_project, jpeg, flags):
    project = new_project(OWN)
    put(project.folder / "weights.pth", b"x")
    put(project.folder / "my images/val/a/1.JPEG", jpeg(1))
    done = project.snakemake("--cores", "2", *flags)
    assert done.returncode == 1, done.stdout
    errors = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert errors == [
        "error: my images: contains no folder train/; put the images into my images/train/<class>/, or check the path; "
        "int8 engines are calibrated on these images: set calibration.root and calibration.split, or remove the int8 "
        "targets"
    ]
    assert {path.name for path in (project.folder / "results").glob("*")} <= {".watched"}


def test_a_dry_run_plans_a_data_set_in_archives(new_project, jpeg):
    project = new_project({**OWN, "calibration": {"split": "val", "images": 2}})
    put(project.folder / "weights.pth", b"x")
    tars_per_class(project.folder / "my images", samples_of((number % 2, jpeg(number)) for number in range(4)))
    assert project.planned()["preprocess_shard"] == 1
