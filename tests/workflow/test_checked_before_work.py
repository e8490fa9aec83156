"""What a sweep lacks of its data is said before the first job, and by a dry run as well."""

import pytest
import torch
from data_layouts import put, samples_of, tars_per_class

from smlp.models import architectures

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


@pytest.mark.parametrize("flags", [["--dry-run"], []], ids=["dry run", "run"])
def test_another_number_of_classes_is_said_before_any_work(new_project, jpeg, flags):
    project = new_project({**OWN, "targets": [{"backend": "onnxruntime"}]})
    torch.save(architectures.create("test_resnet", 10).state_dict(), project.folder / "weights.pth")
    for index, name in enumerate("abc"):
        put(project.folder / f"my images/val/{name}/1.JPEG", jpeg(index))
    done = project.snakemake("--cores", "2", *flags)
    assert done.returncode == 1, done.stdout
    (error,) = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert "has 3 class folders, but weights.pth (models.mine.checkpoint) gives 10 classes" in error
    assert "dataset.classes" in error
    assert {path.name for path in (project.folder / "results").glob("*")} <= {".watched"}
    assert project.snakemake("--cores", "2", "--dry-run", "export").returncode == 0  # it needs no images


def test_a_dry_run_plans_a_data_set_in_archives(new_project, jpeg):
    project = new_project({**OWN, "targets": [{"backend": "onnxruntime"}]})
    put(project.folder / "weights.pth", b"x")
    tars_per_class(project.folder / "my images", samples_of((number % 2, jpeg(number)) for number in range(4)))
    assert project.planned()["preprocess_shard"] == 1
