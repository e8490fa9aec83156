"""What a user can do wrong ends with exit status 1 and one line that says what and where, before any work if it can."""

import hashlib
import os
import shutil
import subprocess

import pytest

# The settings of somebody's own files, of which only names are read before the first job.
OWN = {
    "models": {"mine": {"model_name": "test_resnet", "checkpoint": "weights.pth"}},
    "dataset": {"name": "photos", "root": "my images"},
    "targets": [{"backend": "onnxruntime"}],
}


def error_lines(output):
    return [line for line in output.splitlines() if line.startswith("error: ")]


def refused(project, *flags):
    """The one line with which a run stops before its first job, having written no more than what it has looked at."""
    done = project.snakemake("--cores", "2", *flags)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout
    assert "Execute" not in done.stdout
    assert {path.name for path in (project.folder / "results").glob("*")} <= {".watched"}
    lines = error_lines(done.stdout)
    assert len(lines) == 1, done.stdout
    return lines[0]


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture
def own(new_project):
    """A project with own files that are named right."""
    project = new_project(OWN)
    (project.folder / "weights.pth").write_bytes(b"x")
    return project


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batchsizes": [1]}, "top level: unknown key 'batchsizes'; did you mean 'batch_sizes'?"),
        ({"export": {"opset": 11}}, "export: unknown key 'opset'; did you mean 'opset_version'?"),
        ({"export": {"opset_version": 19}}, "export.opset_version: 19 is greater than the maximum of 18"),
        ({"measure": {"min_runs": "many"}}, "measure.min_runs: 'many' is not of type 'integer'"),
        ({"batch_sizes": [1, 4, 1]}, "batch_sizes: 1 is listed twice"),
        ({"batch_sizes": [1, 0]}, "batch_sizes.1: 0 is less than the minimum of 1"),
        ({"targets": [{"backend": "pytorch", "precision": "int8"}]}, "targets.0: backend 'pytorch' has no precision"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_settings(own, change, message):
    own.configure({**OWN, **change})
    assert refused(own).startswith(f"error: config.yaml: {message}")


def test_settings_of_another_file(own):
    own.configure({**OWN, "batch_sizes": [0]}, "my sweep.yaml")
    assert "/my sweep.yaml: batch_sizes.0: 0 is less than" in refused(own, "--configfile", "my sweep.yaml")


def test_another_working_folder(own):
    done = own.snakemake("--cores", "2", "--snakefile", str(own.folder / "Snakefile"), cwd=own.temporary)
    assert done.returncode == 1
    assert error_lines(done.stdout) == [
        f"error: run snakemake from {own.folder}: commands and results have paths relative to it"
    ]


def test_a_missing_checkpoint(own):
    (own.folder / "weights.pth").unlink()
    assert refused(own).startswith("error: models.mine.checkpoint: weights.pth: no such file;")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "my images: no such dataset folder"),
        ({"train__a__1.JPEG": b""}, "my images: contains no folder val/"),
        ({"val__readme.txt": b""}, "my images/val: contains no images"),
        ({"val__a__1.JPEG": b"", "val__b__readme.txt": b""}, "my images/val/b: class folder without images"),
        ({"val__1.JPEG": b""}, "my images/val: contains images but no class folders, and there is no label file"),
        (
            {"val__1.JPEG": b"", "val__2.JPEG": b"", "val_label.txt": b"1.JPEG 0\n"},
            "my images/val_label.txt: has no line for 2.JPEG",
        ),
        (
            {"val__1.JPEG": b"", "val_label.txt": b"2.JPEG 0\n"},
            "my images/val_label.txt: there is none of its 1 images in my images/val, such as 2.JPEG",
        ),
        (
            {"val__1.JPEG": b"", "val_label.txt": b"1.JPEG 0\n1.JPEG 1\n"},
            "my images/val_label.txt, line 2: 1.JPEG occurs a second time",
        ),
    ],
    ids=[
        "no folder",
        "no split",
        "no images",
        "empty class",
        "no labels",
        "label missing",
        "label of nothing",
        "label twice",
    ],
)
def test_a_dataset(own, files, message):
    if files is not None:
        write(own.folder / "my images", **files)
    assert refused(own).startswith(f"error: {message}")


def test_a_corrupt_image_stops_its_shard_and_no_other(users_sweep):
    settings = users_sweep.settings
    users_sweep.configure({**settings, "dataset": {**settings["dataset"], "on_bad_image": "stop"}})
    done = users_sweep.snakemake("--cores", "2", "preprocess")
    assert done.returncode == 1
    lines = error_lines(done.stdout)
    assert len(lines) == 1
    assert lines[0].startswith("error: my images/val/3_three/val_00000013.JPEG: ")
    assert "--on_bad_image skip" in lines[0]
    assert "Traceback" not in done.stdout
    shards = users_sweep.folder / "results" / "preprocess" / "photos" / "test_resnet"
    assert sorted(path.name for path in shards.iterdir() if path.is_dir()) == ["shard-0", "shard-2"]
    assert users_sweep.scratch() == []


def test_checkpoints_that_cannot_be_had(own, finished_demo):
    """Each fails by itself and is told in the run's own output, whatever becomes of the others."""
    checkpoint = (finished_demo.folder / "results" / "retrieve" / "tiny" / "checkpoint.pth").read_bytes()
    write(own.folder, **{"whole.pth": checkpoint, "truncated.pth": checkpoint[:-1000]})
    write(own.folder / "my images", **{"val__a__1.JPEG": b""})
    wrong = "0" * 64
    sources = {
        "unreachable": "http://127.0.0.1:9/weights.pth",
        "exchanged": {"source": "whole.pth", "sha256": wrong},
        "truncated": "truncated.pth",
        "right": {"source": "whole.pth", "sha256": hashlib.sha256(checkpoint).hexdigest()},
    }
    models = {name: {"model_name": "test_resnet", "checkpoint": source} for name, source in sources.items()}
    models["unknown"] = {"model_name": "test_resnett", "checkpoint": "whole.pth"}
    own.configure({**OWN, "models": models})
    own.environment["NO_WAITS"] = "1"
    done = own.snakemake("--cores", "2", "retrieve")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout
    lines = error_lines(done.stdout)
    assert len(lines) == 4, done.stdout
    for start, word in [
        ("error: http://127.0.0.1:9/weights.pth: cannot reach the server", "check the network"),
        ("error: whole.pth: sha256 is ", f"but {wrong} was expected"),
        ("error: truncated.pth: ", "truncated.pth"),
        ("error: ", "'test_resnett'"),
    ]:
        assert any(line.startswith(start) and word in line for line in lines), (start, lines)
    made = sorted(path.parent.name for path in (own.folder / "results" / "retrieve").glob("*/checkpoint.pth"))
    assert made == ["right"]
    assert own.scratch() == []


def test_a_second_run_while_one_is_running(demo):
    first = demo.hold(demo.folder / "results" / "retrieve" / "digits", "retrieve")
    second = demo.snakemake("--cores", "2", "retrieve")
    assert second.returncode == 1
    assert "Directory cannot be locked" in second.stdout
    assert "Traceback" not in second.stdout
    status, output = first.release()
    assert status == 0, output
    assert demo.planned("retrieve") == {}


def test_a_file_in_place_of_the_results_folder(demo):
    (demo.folder / "results").write_text("")
    assert refused(demo).startswith("error: results: ")


def private_mount(options):
    """Start of a command line that runs the rest with a file system of its own on results/; None where not allowed."""
    prefix = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--mount", "sh", "-c"]
    prefix.append(f'mount -t tmpfs -o {options} tmpfs results && exec "$@"')
    prefix.append("sh")
    return prefix


@pytest.fixture(scope="session")
def mounts(tmp_path_factory):
    """Skip where this user may not mount a file system of their own."""
    folder = tmp_path_factory.mktemp("mounts")
    (folder / "results").mkdir()
    if not shutil.which("unshare") or subprocess.run([*private_mount("size=1m"), "true"], cwd=folder).returncode:
        pytest.skip("a file system of its own may not be mounted here (unshare --mount)")


def test_a_results_folder_that_cannot_be_written(demo, request):
    results = demo.folder / "results"
    results.mkdir()
    prefix = ()
    if os.geteuid() == 0:  # whom permissions do not stop
        request.getfixturevalue("mounts")
        prefix = private_mount("ro")
    else:
        results.chmod(0o555)
    done = demo.snakemake("--cores", "2", "retrieve", prefix=prefix)
    assert done.returncode == 1
    assert "results/retrieve" in done.stdout
    assert "Read-only file system" in done.stdout or "Permission denied" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("size", "message"),
    [
        # the demo's images do not fit
        ("400k", "No space left on device; free some space, or put results/ on a larger disk"),
        # they do, but a shard's eight bins of 300 kB, which is known before, do not
        ("3m", "preprocessing 8 images needs 0.002 GB but only 0.00"),
    ],
)
def test_no_disk_space(demo, mounts, size, message):
    (demo.folder / "results").mkdir()
    done = demo.snakemake("--cores", "2", "preprocess", prefix=private_mount(f"size={size}"))
    assert done.returncode == 1
    lines = error_lines(done.stdout)
    assert lines, done.stdout
    assert all(message in line for line in lines), lines
    assert "Traceback" not in done.stdout
