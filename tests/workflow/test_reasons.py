"""`make why` says of every job which input, setting or code has changed, in the words of the settings."""

import base64
import shutil
import subprocess

import pytest
import yaml


def why(project, *flags):
    """What scripts/why.py prints, without the time that it takes to say that it uses a profile."""
    done = subprocess.run(
        [project.python, "scripts/why.py", *flags],
        cwd=project.folder,
        env=project.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 100
    return done.stdout


def reasons(text):
    """{what jobs: the reasons that are told of them}"""
    found, names = {}, []
    for line in text.split("\n\n")[0].splitlines():
        if line.startswith("    "):
            for name in names:
                found.setdefault(name, []).append(line.strip())
            closed = True
        else:
            names = [" ".join(line.split())] if not names or closed else [*names, " ".join(line.split())]
            closed = False
    return found


def test_a_finished_sweep_has_nothing_to_do_however_it_was_touched(users_sweep):
    for path in (users_sweep.folder / "scripts").rglob("*.py"):
        path.touch()
    assert why(users_sweep) == "nothing to do\n"


def test_every_edit_is_named_with_what_was_there_before(users_sweep):
    folder = users_sweep.folder
    settings = users_sweep.settings
    measure = {**settings["measure"], "min_runs": 5}
    users_sweep.configure({**settings, "measure": measure, "accuracy": {"reference_batch_size": 1, "margin_points": 2}})
    with open(folder / "my weights/tiny.pth", "ab") as checkpoint:
        checkpoint.write(b"more")
    images = folder / "my images/val/9_nine"
    shutil.copyfile(images / "val_00000019.JPEG", images / "val_00000009.JPEG")
    with open(folder / "scripts/smlp/backends/onnxruntime.py", "a") as code:
        code.write("\nADDED = 1\n")
    rule = folder / "rules/tabulate.smk"
    rule.write_text(rule.read_text().replace("{input.published:q}", "{input.published}"))
    (folder / "results/tables/flips.csv").unlink()
    mark = base64.urlsafe_b64encode(b"results/infer/mine/pytorch/fp32/photos/bs1/shard-1").decode()
    (folder / ".snakemake/incomplete" / mark).touch()

    told = reasons(why(users_sweep))
    (checkpoint,) = told["retrieve checkpoint mine"]
    assert checkpoint.startswith("my weights/tiny.pth: other content (") and " → " in checkpoint
    assert told["export onnx mine, reference"] == ["follows from retrieve checkpoint"]
    code = "code: scripts/smlp/backends/onnxruntime.py"
    assert told["compile mine, onnxruntime, fp32, batch 1"] == [code, "follows from export onnx"]
    (image,) = told["preprocess test_resnet, shard 2"]
    assert image.startswith("val/9_nine/val_00000009.JPEG: other content (")
    assert told["infer mine, onnxruntime, fp32, batch 1, shard 0 1 (2 jobs)"] == [code, "follows from compile"]
    assert told["infer mine, pytorch, fp32, batch 1, shard 0"] == ["follows from retrieve checkpoint"]
    assert "was being made when a run was killed" in told["infer mine, pytorch, fp32, batch 1, shard 1"]
    assert told["evaluate mine, onnxruntime, fp32, batch 1"][0] == "margin_points: 1.0 → 2"
    assert told["evaluate mine, pytorch, fp32, batch 1"][0] == "margin_points: 1.0 → 2"
    load = "measure mine, pytorch, fp32, batch 1, load 0"
    assert told[load] == ["min_runs: 3 → 5", "follows from retrieve checkpoint"]
    assert told["measure mine, onnxruntime pytorch, fp32, batch 1 (2 jobs)"] == ["follows from measure"]
    assert told["tabulate"] == [
        "gone: flips.csv",
        "its command line, in rules/tabulate.smk",
        "follows from evaluate, evaluate reference, export onnx, measure",
    ]


def test_a_larger_sweep_and_a_target(users_sweep):
    settings = users_sweep.settings
    other = {**settings, "batch_sizes": [1, 2], "export": {"opset_version": 13}}
    (users_sweep.folder / "mine.yaml").write_text(yaml.safe_dump(other, sort_keys=False))
    told = reasons(why(users_sweep, "compile", "--configfile", "mine.yaml"))
    assert told == {
        "export onnx mine, reference": ["opset_version: 11 → 13"],
        "compile mine, onnxruntime, fp32, batch 1": ["follows from export onnx"],
        "compile mine, onnxruntime, fp32, batch 2": ["not made yet"],
    }


@pytest.mark.parametrize("flags", [["--configfile", "none.yaml"], ["no_such_target"]])
def test_what_snakemake_refuses_is_refused(users_sweep, flags):
    done = subprocess.run([users_sweep.python, "scripts/why.py", *flags], cwd=users_sweep.folder, capture_output=True)
    assert done.returncode != 0 and done.stderr
