"""preprocess.py: the bins, the manifest and the sidecar, and what happens when something goes wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import preprocess
import pytest

from smlp.core import cli, files
from smlp.data import dataset
from smlp.models import preprocessing

REPOSITORY = Path(__file__).resolve().parents[3]
IMAGE_BYTES = 4 * 3 * 224 * 224


@pytest.fixture
def data(tmp_path, jpeg):
    """Seven images in two classes."""
    root = tmp_path / "a data set"
    for index in range(7):
        path = root / "val" / ("cats" if index < 3 else "dogs, etc") / f"{index}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(index))
    return root


def command(*flags, **options):
    arguments = [sys.executable, "scripts/preprocess.py", *map(str, flags)]
    return subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, **options)


def run(data_root, save_dir, *flags):
    """The command in this process; its exit status."""
    with pytest.raises(SystemExit) as left:
        argv = ["--data_root", str(data_root), "--save_dir", str(save_dir), "--workers", "1", *map(str, flags)]
        cli.run(lambda _: preprocess.main(argv))
    return left.value.code


def pixels(data_root, rows):
    return b"".join(preprocessing.SMLPNET((data_root / row.image).read_bytes()).tobytes() for row in rows)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_command_writes_bins_manifest_and_sidecar(data, tmp_path):
    bins = tmp_path / "my results" / "bins.v1"
    done = command("--data_root", data, "--save_dir", bins, "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert sorted(path.name for path in bins.parent.iterdir()) == ["bins.v1", "bins.v1.json"]

    rows = dataset.read_manifest(bins / "manifest.csv")
    assert (bins / "manifest.csv").read_text().splitlines()[0] == "index,bin,image,class,label,sha256"
    assert [(row.index, row.image, row.class_name, row.label) for row in rows] == dataset.list_images(data)
    assert [row.bin for row in rows] == [f"batch-0000{index}.bin" for index in range(7)]
    assert sorted(os.listdir(bins)) == sorted([row.bin for row in rows] + ["manifest.csv"])
    for row in rows:
        assert (bins / row.bin).read_bytes() == pixels(data, [row])
        assert row.sha256 == files.digest(data / row.image)

    sidecar = json.loads((tmp_path / "my results" / "bins.v1.json").read_text())
    assert sidecar["images"] == sidecar["bins"] == 7 and sidecar["bytes"] == 7 * IMAGE_BYTES
    assert sidecar["skipped"] == [] and sidecar["emulated"] is False
    assert sidecar["transform"] == json.loads(json.dumps(preprocessing.SMLPNET.to_dict()))
    assert {"python", "numpy", "pillow"} <= set(sidecar["versions"])


def test_the_number_of_workers_changes_no_byte(data, tmp_path):
    for workers in (1, 2, 3):
        entries = dataset.list_images(data)
        facts = preprocess.preprocess(entries, data, tmp_path / f"{workers}", preprocessing.SMLPNET, workers=workers)
        assert facts["images"] == 7
        assert contents(tmp_path / f"{workers}") == contents(tmp_path / "1")


@pytest.mark.parametrize("batch_size", [2, 3, 7, 10])
def test_a_bin_holds_a_batch_and_the_last_what_is_left(data, tmp_path, batch_size):
    bins = tmp_path / "bins"
    assert run(data, bins, "--batch_size", batch_size) == 0
    rows = dataset.read_manifest(bins / "manifest.csv")
    assert [row.bin for row in rows] == [f"batch-0000{index // batch_size}.bin" for index in range(7)]
    for name in sorted({row.bin for row in rows}):
        assert (bins / name).read_bytes() == pixels(data, [row for row in rows if row.bin == name])


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_shards_together_are_the_whole_and_share_no_bin(data, tmp_path, batch_size):
    assert run(data, tmp_path / "whole", "--batch_size", batch_size) == 0
    together, rows = {}, []
    for index in range(3):
        shard = tmp_path / f"shard-{index}"
        assert run(data, shard, "--batch_size", batch_size, "--shard", f"{index}/3") == 0
        assert json.loads((tmp_path / f"shard-{index}.json").read_text())["shard"] == {"index": index, "count": 3}
        rows += dataset.read_manifest(shard / "manifest.csv")
        found = contents(shard)
        del found["manifest.csv"]
        assert not together.keys() & found.keys()
        together |= found
    whole = contents(tmp_path / "whole")
    del whole["manifest.csv"]
    assert together == whole
    assert rows == dataset.read_manifest(tmp_path / "whole" / "manifest.csv")


def test_the_flat_layout_and_another_models_preprocessing(data, tmp_path):
    for path in (data / "val").glob("*/*"):
        path.rename(data / "val" / path.name)
    for folder in ("cats", "dogs, etc"):
        (data / "val" / folder).rmdir()
    (data / "val_label.txt").write_text("".join(f"{index}.JPEG {900 + index}\n" for index in range(7)))
    assert run(data, tmp_path / "bins", "--model_name", "fbnetv3_b") == 0
    rows = dataset.read_manifest(tmp_path / "bins" / "manifest.csv")
    assert [(row.label, row.class_name) for row in rows] == [(900 + index, f"{900 + index}") for index in range(7)]
    other = preprocessing.resolve("fbnetv3_b")
    assert other.interpolation == "bilinear"
    assert (tmp_path / "bins" / rows[4].bin).read_bytes() == other((data / rows[4].image).read_bytes()).tobytes()


BAD = {
    "empty": lambda jpeg: b"",
    "truncated": lambda jpeg: jpeg(1)[:-200],
    "text": lambda jpeg: b"<html>404 not found</html>",
}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_image_stops_with_its_name_and_leaves_nothing(data, tmp_path, jpeg, capfd, kind, workers):
    for name in ("cats/1.JPEG", "dogs, etc/5.JPEG"):
        (data / "val" / name).write_bytes(BAD[kind](jpeg))
    results = tmp_path / "results"
    results.mkdir()
    assert run(data, results / "bins", "--workers", workers) == 1
    error = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("preprocess:")]
    assert len(error) == 1 and error[0].startswith(f"error: {data}/val/cats/1.JPEG: ")
    assert "--on_bad_image skip" in error[0]
    assert list(results.iterdir()) == []


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("workers", [1, 2])
def test_bad_images_can_be_left_out_and_are_listed(data, tmp_path, jpeg, batch_size, workers):
    (data / "val" / "cats" / "1.JPEG").write_bytes(BAD["truncated"](jpeg))
    (data / "val" / "dogs, etc" / "6.JPEG").write_bytes(b"")
    bins = tmp_path / "bins"
    assert run(data, bins, "--on_bad_image", "skip", "--batch_size", batch_size, "--workers", workers) == 0

    sidecar = json.loads((tmp_path / "bins.json").read_text())
    assert [(bad["index"], bad["image"]) for bad in sidecar["skipped"]] == [
        (1, "val/cats/1.JPEG"),
        (6, "val/dogs, etc/6.JPEG"),
    ]
    assert sidecar["skipped"][1]["reason"] == "is empty"
    rows = dataset.read_manifest(bins / "manifest.csv")
    assert [row.index for row in rows] == [0, 2, 3, 4, 5]
    assert [row.bin for row in rows] == [f"batch-0000{row.index // batch_size}.bin" for row in rows]
    assert sorted(path.name for path in bins.glob("*.bin")) == sorted({row.bin for row in rows})
    for name in {row.bin for row in rows}:
        assert (bins / name).read_bytes() == pixels(data, [row for row in rows if row.bin == name])
    assert sidecar["images"] == 5 and sidecar["bytes"] == 5 * IMAGE_BYTES


def test_a_dataset_of_bad_images_only_is_an_error(data, tmp_path, capfd):
    for path in (data / "val").glob("*/*"):
        path.write_bytes(b"x")
    assert run(data, tmp_path / "bins", "--on_bad_image", "skip") == 1
    assert "0.JPEG" in capfd.readouterr().err.splitlines()[-1]
    assert sorted(os.listdir(tmp_path)) == [data.name]


@pytest.mark.parametrize("flag", ["--shard", "--batch_size", "--workers", "--on_bad_image"])
@pytest.mark.parametrize("value", ["0", "-1", "2/2", "1/0", "/", "a/b", "x", ""])
def test_wrong_flags_are_wrong_usage(data, tmp_path, capfd, flag, value):
    assert run(data, tmp_path / "bins", flag, value) == 2
    assert flag in capfd.readouterr().err
    assert not (tmp_path / "bins").exists()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--model_name", "smlpnet_tiyn"), "smlpnet_tiyn"),
        (("--split", "test"), "test/"),
        (("--shard", "7/8"), "--shard 7/8"),
        (("--data_root", "/no/such/folder"), "/no/such/folder"),
    ],
)
def test_what_a_user_can_mend_is_one_line(data, tmp_path, capfd, flags, named):
    assert run(data, tmp_path / "bins", *flags) == 1
    error = capfd.readouterr().err.splitlines()
    assert len(error) == 1 and error[0].startswith("error: ") and named in error[0]
    assert sorted(os.listdir(tmp_path)) == [data.name]


def test_bins_never_land_among_the_images_or_replace_anything_else(data, tmp_path, capfd):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")
    before = sorted(tmp_path.rglob("*"))
    for save_dir in (data / "val", data / "val" / "bins", precious, precious / "thesis.tex", data):
        assert run(data, save_dir) == 1
        assert save_dir.name in capfd.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    assert (precious / "thesis.tex").read_text() == "years of work"


def test_an_older_run_is_replaced_but_only_by_a_whole_one(data, tmp_path):
    bins = tmp_path / "bins"
    assert run(data, bins) == 0
    first = contents(bins)
    sidecar = (tmp_path / "bins.json").read_bytes()
    (data / "val" / "dogs, etc" / "5.JPEG").write_bytes(b"")
    assert run(data, bins) == 1
    assert contents(bins) == first and (tmp_path / "bins.json").read_bytes() == sidecar
    (data / "val" / "dogs, etc" / "5.JPEG").unlink()
    assert run(data, bins) == 0
    assert len(contents(bins)) == len(first) - 1
    assert json.loads((tmp_path / "bins.json").read_text())["images"] == 6


def test_a_full_disk_is_noticed_first(data, tmp_path, monkeypatch, capfd):
    free = files.shutil.disk_usage(tmp_path)._replace(free=7 * IMAGE_BYTES - 1)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: free)
    assert run(data, tmp_path / "bins") == 1
    assert "7 images needs 0.004 GB" in capfd.readouterr().err
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: free._replace(free=7 * IMAGE_BYTES))
    assert run(data, tmp_path / "bins") == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_disk_that_fills_up_names_the_bin(data, tmp_path, workers):
    # no file may grow beyond 300 KiB, half a bin
    limited = ["bash", "-c", 'ulimit -f 300; exec "$@"', "bash", sys.executable, "scripts/preprocess.py"]
    flags = ["--data_root", data, "--save_dir", tmp_path / "bins", "--workers", str(workers)]
    done = subprocess.run([*limited, *flags], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "batch-00000.bin" in done.stderr and done.stderr.count("\n") == 1
    assert sorted(os.listdir(tmp_path)) == [data.name]


class Die:
    """A transform in whose hands a worker is killed, as by the kernel when memory runs out."""

    shape = (3, 2, 2)

    def __call__(self, content, out, notes):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_reported(data, tmp_path):
    with pytest.raises(cli.UserError, match="worker processes was killed or ran out of memory"):
        preprocess.preprocess(dataset.list_images(data), data, tmp_path / "bins", Die(), workers=2)
    assert sorted(os.listdir(tmp_path)) == [data.name]


@pytest.fixture
def many(data):
    """So many images that the command can be met at work."""
    content = (data / "val" / "cats" / "0.JPEG").read_bytes()
    for index in range(2000):
        (data / "val" / "cats" / f"more-{index}.JPEG").write_bytes(content)
    return data


def start(data_root, save_dir, at_work=".{}.*/*/*.bin"):
    """The running command, its workers included, once it has written its first bins."""
    arguments = [
        sys.executable,
        "scripts/preprocess.py",
        "--data_root",
        data_root,
        "--save_dir",
        save_dir,
        "--workers",
        "2",
    ]
    process = subprocess.Popen(arguments, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(save_dir.parent.glob(at_work.format(save_dir.name))):
        assert process.poll() is None and time.monotonic() < deadline
    return process


def wait_until_gone(group):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
    os.killpg(group, signal.SIGKILL)
    raise AssertionError("processes were left behind")


@pytest.mark.parametrize("at_work", [".{}.*/*/*.bin", ".{}.*"], ids=["working", "starting workers"])
def test_ctrl_c_leaves_neither_processes_nor_files(many, tmp_path, at_work):
    results = tmp_path / "results"
    process = start(many, results / "bins", at_work)
    os.killpg(process.pid, signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert error.splitlines()[-1] == "interrupted" and "Traceback" not in error
    wait_until_gone(process.pid)
    assert list(results.iterdir()) == []


def test_after_kill_9_the_workers_go_and_the_next_run_clears_up(many, tmp_path):
    results = tmp_path / "results"
    process = start(many, results / "bins")
    process.kill()
    process.communicate(timeout=60)
    wait_until_gone(process.pid)
    assert not (results / "bins").exists() and len(list(results.iterdir())) == 1
    assert run(many, results / "bins", "--shard", "0/500") == 0
    assert sorted(path.name for path in results.iterdir()) == ["bins", "bins.json"]


def test_a_log_gets_a_line_for_every_tenth(data, tmp_path, jpeg, capfd):
    for index in range(93):
        (data / "val" / "cats" / f"more-{index}.JPEG").write_bytes(jpeg(0, 8, 8))
    assert run(data, tmp_path / "bins") == 0
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("preprocess: ")]
    assert 5 <= len(lines) <= 10
    assert lines[-1].startswith("preprocess: 100/100 images, ") and lines[-1].endswith(" images/s, 0 s left")


def test_a_terminal_gets_a_bar(data, tmp_path):
    controller, terminal = os.openpty()
    arguments = ["--data_root", data, "--save_dir", tmp_path / "bins", "--workers", "1"]
    process = subprocess.Popen([sys.executable, "scripts/preprocess.py", *arguments], cwd=REPOSITORY, stderr=terminal)
    os.close(terminal)
    shown = b""
    try:
        while block := os.read(controller, 4096):
            shown += block
    except OSError:  # Linux: the other end is closed
        pass
    os.close(controller)
    assert process.wait(timeout=60) == 0
    assert b"7/7" in shown and b"images/s" in shown
