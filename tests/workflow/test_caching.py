"""What each kind of change makes Snakemake run again: exactly these rules, so many jobs of each, and no others."""

import os
import shutil

import pytest

NOTHING = {}
TABLES = {"tabulate": 1}
EVALUATED = {"evaluate_reference": 1, "evaluate_engine": 4, **TABLES}
# Of the demo: two targets x two batch sizes, three shards, and the reference with its own batch size.
ONNXRUNTIME = {"infer_shard": 6, "evaluate_engine": 2, "measure_load": 2, "measure_engine": 2, **TABLES}
BINS = {"preprocess_shard": 3, "infer_shard": 15, "measure_load": 4, "measure_engine": 4, **EVALUATED}


def setting(section, key, value):
    """A change of one setting."""

    def change(project):
        settings = project.settings
        project.configure({**settings, section: {**settings.get(section, {}), key: value}})

    return change


def batch_sizes(*sizes):
    return lambda project: project.configure({**project.settings, "batch_sizes": list(sizes)})


def targets(*backends):
    return lambda project: project.configure({**project.settings, "targets": [{"backend": name} for name in backends]})


def edit(path, change):
    """Pass the text of a file through a function."""

    def apply(project):
        file = project.folder / path
        text = file.read_text(encoding="utf-8")
        file.write_text(change(text), encoding="utf-8")
        assert file.read_text(encoding="utf-8") != text

    return apply


def code(path):
    return edit(f"scripts/{path}", lambda text: text + "\nADDED = 1\n")


def comment(path):
    return edit(f"scripts/{path}", lambda text: "# a comment\n" + text + "\n# and another\n")


def docstring(path):
    return edit(f"scripts/{path}", lambda text: '"""Another docstring."""\n' + text.split('"""', 2)[2])


def touch(*patterns):
    """New times for every file and folder that matches."""

    def apply(project):
        for pattern in patterns:
            # all but Snakemake's own time stamps, which stand for the folders that they are in
            paths = [path for path in project.folder.glob(pattern) if path.name != ".snakemake_timestamp"]
            assert paths, pattern
            for path in paths:
                os.utime(path)

    return apply


def remove(path):
    return lambda project: (project.folder / path).unlink()


def replace(path, source):
    """Other content with an older time, as cp -p, mv, rsync -a and unzip bring it."""

    def apply(project):
        shutil.copyfile(project.folder / source, project.folder / path)
        os.utime(project.folder / path, (1_000_000_000, 1_000_000_000))

    return apply


def other_weights(project):
    """The same network with other weights, in place of the user's checkpoint, with an older time."""
    import torch

    path = project.folder / "my weights" / "tiny.pth"
    checkpoint = torch.load(path, weights_only=False)  # made by this test's own sweep
    checkpoint["model"] = {
        key: value * 1.5 if value.is_floating_point() else value for key, value in checkpoint["model"].items()
    }
    torch.save(checkpoint, path)
    os.utime(path, (1_000_000_000, 1_000_000_000))


@pytest.mark.parametrize(
    ("change", "planned"),
    [
        pytest.param(lambda project: None, NOTHING, id="nothing"),
        pytest.param(touch("config.yaml", "Snakefile", "rules/*", "scripts/**/*.py"), NOTHING, id="touched code"),
        pytest.param(touch("results/retrieve/tiny/*", "results/export/tiny/*"), NOTHING, id="touched onnx"),
        pytest.param(touch("results/compile/**/*"), NOTHING, id="touched engines"),
        pytest.param(touch("results/retrieve/**/*", "results/preprocess/**/*"), NOTHING, id="touched bins"),
        pytest.param(touch("results/infer/**/*", "results/evaluate/**/*"), NOTHING, id="touched outputs"),
        pytest.param(
            batch_sizes(1, 4, 8),
            {
                "compile_onnxruntime": 1,
                "infer_shard": 3,
                "evaluate_engine": 2,
                "measure_load": 2,
                "measure_engine": 2,
                **TABLES,
            },
            id="batch size added that the reference has run",
        ),
        pytest.param(
            batch_sizes(1, 2, 4),
            {
                "compile_onnxruntime": 1,
                "infer_shard": 6,
                "evaluate_engine": 2,
                "measure_load": 2,
                "measure_engine": 2,
                **TABLES,
            },
            id="batch size added",
        ),
        pytest.param(batch_sizes(4), TABLES, id="batch size removed"),
        pytest.param(targets("onnxruntime"), TABLES, id="target removed"),
        pytest.param(
            setting("export", "opset_version", 13),
            {"export_onnx": 1, "compile_onnxruntime": 2, **ONNXRUNTIME},
            id="opset",
        ),
        pytest.param(setting("accuracy", "margin_points", 2.5), {"evaluate_engine": 4, **TABLES}, id="margin"),
        pytest.param(
            setting("measure", "min_runs", 4), {"measure_load": 4, "measure_engine": 4, **TABLES}, id="measuring bounds"
        ),
        pytest.param(setting("decision", "latency_ms_max", 2.5), TABLES, id="limit of the decision"),
        pytest.param(setting("accuracy", "familywise", "holm"), TABLES, id="how verdicts are given"),
        pytest.param(setting("calibration", "images", 10), NOTHING, id="calibration that no target needs"),
        pytest.param(setting("dataset", "shards", 2), {**BINS, "preprocess_shard": 2, "infer_shard": 10}, id="shards"),
        pytest.param(
            remove("results/compile/tiny/onnxruntime/fp32/bs4.onnx"),
            NOTHING,
            id="engine deleted, its figures are there",
        ),
        pytest.param(edit("resources/published.csv", lambda text: text + "\n"), TABLES, id="published figures"),
        pytest.param(edit("resources/report.html.j2", lambda text: text + "\n"), TABLES, id="template of the page"),
        pytest.param(comment("smlp/core/files.py"), NOTHING, id="comment in a shared module"),
        pytest.param(docstring("smlp/core/files.py"), NOTHING, id="docstring of a shared module"),
        pytest.param(
            code("smlp/backends/onnxruntime.py"), {"compile_onnxruntime": 2, **ONNXRUNTIME}, id="code of a backend"
        ),
        pytest.param(
            code("smlp/backends/pytorch.py"),
            {"infer_shard": 9, "measure_load": 2, "measure_engine": 2, **EVALUATED},
            id="code of the reference's backend",
        ),
        pytest.param(code("preprocess.py"), BINS, id="code of preprocess"),
        pytest.param(
            code("smlp/data/transform.py"),
            {"retrieve_dataset": 1, "retrieve_checkpoint": 1, "export_onnx": 1, "compile_onnxruntime": 2, **BINS},
            id="code of the transform",
        ),
        pytest.param(code("measure.py"), {"measure_load": 4, "measure_engine": 4, **TABLES}, id="code of measure"),
        pytest.param(
            code("smlp/results/statistics.py"),
            {"measure_load": 4, "measure_engine": 4, **EVALUATED},
            id="code of the statistics",
        ),
        pytest.param(code("tabulate.py"), TABLES, id="code of tabulate"),
    ],
)
def test_the_demos_sweep(demo_sweep, change, planned):
    change(demo_sweep)
    assert demo_sweep.planned() == planned


# Of the user's files: two targets at batch size 1, three shards; the reference is the first target's run.
@pytest.mark.parametrize(
    ("change", "planned"),
    [
        pytest.param(touch("my images/val/*/*", "my images/val/*", "my weights/*"), NOTHING, id="touched files"),
        pytest.param(
            other_weights,
            {
                "retrieve_checkpoint": 1,
                "export_onnx": 1,
                "compile_onnxruntime": 1,
                "infer_shard": 6,
                "measure_load": 2,
                "measure_engine": 2,
                **EVALUATED,
                "evaluate_engine": 2,
            },
            id="checkpoint",
        ),
        pytest.param(
            replace("my images/val/9_nine/val_00000009.JPEG", "my images/val/9_nine/val_00000019.JPEG"),
            {"preprocess_shard": 1, "infer_shard": 2, **EVALUATED, "evaluate_engine": 2},
            id="image of a later shard",
        ),
        pytest.param(
            replace("my images/val/0_zero/val_00000000.JPEG", "my images/val/0_zero/val_00000010.JPEG"),
            {
                "preprocess_shard": 1,
                "infer_shard": 2,
                "measure_load": 2,
                "measure_engine": 2,
                **EVALUATED,
                "evaluate_engine": 2,
            },
            id="image of the first shard, which is measured with",
        ),
        pytest.param(
            replace("my images/val/3_three/val_00000013.JPEG", "my images/val/3_three/val_00000023.JPEG"),
            {"preprocess_shard": 1, "infer_shard": 2, **EVALUATED, "evaluate_engine": 2},
            id="cut-off image mended",
        ),
        pytest.param(
            remove("my images/val/9_nine/val_00000019.JPEG"),
            {"preprocess_shard": 1, "infer_shard": 2, **EVALUATED, "evaluate_engine": 2},
            id="last image removed",
        ),
    ],
)
def test_somebodys_own_files(users_sweep, change, planned):
    change(users_sweep)
    assert users_sweep.planned() == planned


def test_what_ran_again_is_not_run_once_more(users_sweep):
    """The changed image's shard is made again, by a real run, and then everything is up to date."""
    replace("my images/val/9_nine/val_00000009.JPEG", "my images/val/9_nine/val_00000019.JPEG")(users_sweep)
    before = users_sweep.contents("preprocess/**/*.bin")
    users_sweep.sweep("preprocess")
    after = users_sweep.contents("preprocess/**/*.bin")
    shard = "results/preprocess/photos/test_resnet/shard-2"
    assert [path for path in after if after[path] != before[path]] == [f"{shard}/batch-00022.bin"]
    assert users_sweep.planned("preprocess") == NOTHING
