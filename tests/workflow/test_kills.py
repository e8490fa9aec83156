"""kill -9 of Snakemake and its children in the middle of every stage costs time and nothing else."""

PLAIN_PYTHON = True  # see new_project

# Each stage with what is about to get its name at that moment: a companion of it stands there already, or, where
# it is the first, all of its content is in a scratch folder.
MOMENTS = [
    ("retrieve", "retrieve/digits"),
    ("retrieve", "retrieve/tiny/checkpoint.pth"),
    ("export", "export/tiny/reference.onnx"),
    ("compile", "compile/tiny/onnxruntime/fp32/bs4.onnx"),
    ("preprocess", "preprocess/digits/test_resnet/shard-1.json"),
    ("infer", "infer/tiny/onnxruntime/fp32/digits/bs4/shard-2_summary.json"),
    ("evaluate", "evaluate/tiny/reference/digits.json"),
    ("measure", "measure/tiny/onnxruntime/fp32/bs1/load-0.json"),
    ("tabulate", "tables/report.html"),
]


def test_kills_in_every_stage_leave_the_same_results(demo, finished_demo):
    for stage, moment in MOMENTS:
        path = demo.folder / "results" / moment
        held = demo.hold(path, stage)
        assert not path.exists()
        held.kill()
        assert not path.exists()
        assert list(path.parent.glob(f".{path.name}.*.partial")), moment
        unlocked = demo.snakemake("--unlock")
        assert unlocked.returncode == 0, unlocked.stdout
    demo.sweep()

    assert demo.scratch() == []
    patterns = ["**/*.bin", "**/manifest.csv", "infer/**/*.npy", "**/*.onnx", "**/*.pth", "tables/accuracy.*"]
    uninterrupted, rerun = finished_demo.contents(*patterns), demo.contents(*patterns)
    assert len(uninterrupted) == 24 + 3 + 15 * 8 + 3 + 1 + 3
    assert sorted(rerun) == sorted(uninterrupted)
    assert [path for path in rerun if rerun[path] != uninterrupted[path]] == []
    # logs of what failed stay, and the name of the sweep's entry in the history has its time
    everything, again = (
        {path for path in project.contents("**/*") if "/logs/" not in path and not path.endswith(".jsonl")}
        for project in (finished_demo, demo)
    )
    assert again == everything
    assert len(demo.contents("history/*.jsonl")) == 1
    assert demo.planned() == {}
