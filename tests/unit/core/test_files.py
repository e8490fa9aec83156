"""Files appear whole or not at all, whatever happens to their writer."""

import ctypes
import errno
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from smlp.core import files
from smlp.core.cli import UserError

SCRIPTS = Path(__file__).parents[3] / "scripts"
OWN = r"\d+\.txt"


def tree(folder):
    """Every path below `folder`, hidden ones included, with the content of files."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_a_file_has_its_name_only_at_the_end(tmp_path):
    target = tmp_path / "new folder" / "a.txt"
    with files.whole_file(target) as partial:
        assert partial.name == "a.txt"
        partial.write_text("one")
        assert not target.exists()
    assert tree(target.parent) == {"a.txt": b"one"}


def test_whole_file_replaces_the_old_one_at_the_end(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with files.whole_file(target) as partial:
        partial.write_text("new")
        assert target.read_text() == "old"
    assert tree(tmp_path) == {"a.txt": b"new"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_nothing_of_a_failed_file_remains(tmp_path, error):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(error), files.whole_file(tmp_path / "a.txt") as partial:
        partial.write_text("half")
        partial.with_suffix(".json").write_text("{}")
        raise error
    assert tree(tmp_path) == {"a.txt": b"old"}


def test_companions_come_along_and_the_named_file_last(tmp_path, monkeypatch):
    order = []
    replace = os.replace
    monkeypatch.setattr(
        os, "replace", lambda source, target: (order.append(Path(target).name), replace(source, target))
    )
    with files.whole_file(tmp_path / "a.graph") as partial:
        partial.write_text("graph")
        partial.with_suffix(".bin").write_text("weights")
        partial.with_suffix(".json").write_text("{}")
    assert sorted(order[:-1]) == ["a.bin", "a.json"]
    assert order[-1] == "a.graph"
    assert tree(tmp_path) == {"a.graph": b"graph", "a.bin": b"weights", "a.json": b"{}"}


def test_a_writer_that_wrote_nothing_makes_no_file(tmp_path):
    with files.whole_file(tmp_path / "a.txt"):
        pass
    assert tree(tmp_path) == {}


def test_others_may_read_what_a_writer_kept_to_itself(tmp_path):
    mask = os.umask(0o027)
    try:
        with files.whole_file(tmp_path / "a.om") as partial:
            partial.touch(0o600)
    finally:
        os.umask(mask)
    assert (tmp_path / "a.om").stat().st_mode & 0o777 == 0o640


def test_a_folder_has_its_name_only_at_the_end(tmp_path):
    target = tmp_path / "deep er" / "results"
    with files.whole_folder(target, OWN) as partial:
        (partial / "1.txt").write_text("one")
        assert not target.exists()
    assert tree(target.parent) == {"results": None, "results/1.txt": b"one"}
    assert target.stat().st_mode & 0o777 == 0o777 & ~files._umask()


def test_whole_folder_replaces_an_older_one_completely(tmp_path):
    target = tmp_path / "results"
    for name in ("1.txt", "2.txt"):
        with files.whole_folder(target, OWN) as partial:
            (partial / name).write_text(name)
    assert tree(tmp_path) == {"results": None, "results/2.txt": b"2.txt"}


def test_nothing_of_a_failed_folder_remains(tmp_path):
    target = tmp_path / "results"
    with files.whole_folder(target, OWN) as partial:
        (partial / "1.txt").write_text("old")
    with pytest.raises(RuntimeError), files.whole_folder(target, OWN) as partial:
        (partial / "1.txt").write_text("half")
        raise RuntimeError
    assert tree(tmp_path) == {"results": None, "results/1.txt": b"old"}


@pytest.fixture
def disk(monkeypatch):
    """What happens to a folder, in order: "syncfs", the names that are flushed one by one, and "rename"."""
    happened = []
    fsync, rename, load = os.fsync, os.rename, ctypes.CDLL

    class Library:
        def __init__(self, *arguments, **options):
            self.syncfs = lambda descriptor: happened.append("syncfs") or load(*arguments, **options).syncfs(descriptor)

    def name(descriptor):
        return Path(os.readlink(f"/proc/self/fd/{descriptor}")).name

    monkeypatch.setattr(ctypes, "CDLL", Library)
    monkeypatch.setattr(os, "fsync", lambda descriptor: (happened.append(name(descriptor)), fsync(descriptor)))
    monkeypatch.setattr(os, "rename", lambda *paths: (happened.append("rename"), rename(*paths)))
    return happened


def fill(folder):
    with files.whole_folder(folder, OWN) as partial:
        (partial / "deeper").mkdir()
        for name in ("1.txt", "2.txt", "deeper/3.txt"):
            (partial / name).write_text(name)


def test_a_folder_is_flushed_once_before_its_name_and_the_name_afterwards(tmp_path, disk, monkeypatch):
    monkeypatch.setattr(files, "_syncfs_reports_errors", lambda: True)
    fill(tmp_path / "results")
    assert disk == ["syncfs", "rename", tmp_path.name]


@pytest.mark.parametrize("lacks", ["the call", "its errors"])
def test_without_syncfs_each_file_is_flushed_before_the_folder_gets_its_name(tmp_path, disk, monkeypatch, lacks):
    if lacks == "the call":
        monkeypatch.setattr(ctypes, "CDLL", lambda *arguments, **options: object())
    else:
        monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release="4.19.90-2102.2.0"))
    fill(tmp_path / "results")
    assert sorted(disk[:-2]) == ["1.txt", "2.txt", "3.txt", "deeper", "results"]
    assert disk[-2:] == ["rename", tmp_path.name]


def test_a_disk_that_refuses_data_gives_no_folder(tmp_path, monkeypatch):
    def refuse(descriptor):
        ctypes.set_errno(errno.EIO)
        return -1

    monkeypatch.setattr(files, "_syncfs_reports_errors", lambda: True)
    monkeypatch.setattr(ctypes, "CDLL", lambda *arguments, **options: SimpleNamespace(syncfs=refuse))
    with pytest.raises(OSError, match="results"):
        fill(tmp_path / "results")
    assert tree(tmp_path) == {}


class Interrupt:
    """Ctrl-C at one of the moments that `files` goes through until the block begins."""

    def __init__(self, moment):
        self.left = moment

    def __call__(self, frame, event, _):
        if frame.f_code.co_filename != files.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self


@pytest.mark.parametrize("kind", ["whole_file", "whole_folder"])
def test_ctrl_c_before_the_block_leaves_nothing(tmp_path, kind):
    begun = False
    moment = 0
    while not begun:
        try:
            sys.settrace(Interrupt(moment))
            with getattr(files, kind)(tmp_path / "new", *([OWN] if kind == "whole_folder" else [])):
                sys.settrace(None)
                begun = True
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        assert tree(tmp_path) == {}, moment
        moment += 1
    assert moment > 50


def test_a_folder_with_foreign_files_is_left_alone(tmp_path):
    target = tmp_path / "results"
    target.mkdir()
    (target / "1.txt").write_text("ours")
    (target / "thesis.txt").write_text("theirs")
    before = tree(tmp_path)
    with pytest.raises(UserError, match=r"results: holds 'thesis.txt'"), files.whole_folder(target, OWN):
        pytest.fail("must not start")
    assert tree(tmp_path) == before


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / "results").write_text("theirs")
    with pytest.raises(UserError, match="results: is a file"), files.whole_folder(tmp_path / "results", OWN):
        pytest.fail("must not start")
    assert tree(tmp_path) == {"results": b"theirs"}


def test_snakemakes_time_stamp_is_not_foreign(tmp_path):
    target = tmp_path / "results"
    target.mkdir()
    (target / ".snakemake_timestamp").touch()
    with files.whole_folder(target, OWN) as partial:
        (partial / "1.txt").write_text("one")
    assert tree(target) == {"1.txt": b"one"}


# killed writers


class Writer:
    """Another process in the middle of writing `path`."""

    def __init__(self, path, kind):
        opened = f"files.{kind}({str(path)!r}{', ' + repr(OWN) if kind == 'whole_folder' else ''})"
        code = f"""
import sys; sys.path.insert(0, {str(SCRIPTS)!r})
from smlp.core import files
with {opened} as partial:
    target = partial / "1.txt" if partial.is_dir() else partial
    target.write_text("from the other process")
    print(partial, flush=True)
    sys.stdin.readline()
"""
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.scratch = Path(self.process.stdout.readline().strip()).parent

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self._wait()

    def finish(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self._wait()
        assert self.process.returncode == 0

    def _wait(self):
        self.process.wait(30)
        self.process.stdin.close()
        self.process.stdout.close()


def write(path, kind):
    if kind == "whole_file":
        files.write_text(path, "mine")
    else:
        with files.whole_folder(path, OWN) as partial:
            (partial / "1.txt").write_text("mine")


def content(path):
    return (path / "1.txt" if path.is_dir() else path).read_text()


@pytest.mark.parametrize("kind", ["whole_file", "whole_folder"])
@pytest.mark.parametrize("name", ["result", "odd [1]*name"])
def test_the_next_writer_removes_what_a_killed_one_left(tmp_path, kind, name):
    target = tmp_path / name
    dead = Writer(target, kind)
    dead.kill()
    assert dead.scratch.is_dir()
    assert not target.exists()
    write(target, kind)
    assert content(target) == "mine"
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("kind", ["whole_file", "whole_folder"])
def test_a_live_writer_is_left_alone(tmp_path, kind):
    target = tmp_path / "result"
    live = Writer(target, kind)
    write(target, kind)
    assert live.scratch.is_dir()
    assert content(target) == "mine"
    live.finish()
    assert content(target) == "from the other process"
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_what_belongs_to_other_names_is_left_alone(tmp_path):
    dead = Writer(tmp_path / "other", "whole_file")
    dead.kill()
    write(tmp_path / "result", "whole_file")
    assert dead.scratch.is_dir()


@pytest.mark.parametrize("moment", ["before it is opened", "before it is locked"])
def test_scratch_that_another_run_removed_is_made_again(tmp_path, monkeypatch, moment):
    made = []
    mkdir, flock = Path.mkdir, fcntl.flock

    def clean_up(when):
        if when == moment and len(made) == 1:
            shutil.rmtree(made[0])

    def make(path, *arguments, **options):
        mkdir(path, *arguments, **options)
        if path.suffix == ".partial":
            made.append(path)
            clean_up("before it is opened")

    def lock(descriptor, kind):
        clean_up("before it is locked")
        flock(descriptor, kind)

    monkeypatch.setattr(Path, "mkdir", make)
    monkeypatch.setattr(fcntl, "flock", lock)
    files.write_text(tmp_path / "a.txt", "mine")
    assert len(made) == 2
    assert tree(tmp_path) == {"a.txt": b"mine"}


# texts, JSON, checksums, space


def test_write_text_is_utf8(tmp_path):
    files.write_text(tmp_path / "a.txt", "größer ✓\n")
    assert (tmp_path / "a.txt").read_bytes() == "größer ✓\n".encode()


def test_json_is_read_as_it_was_written(tmp_path):
    value = {"a": [1, 2.5, None, True], "ü": "x"}
    files.write_json(tmp_path / "a.json", value)
    assert files.read_json(tmp_path / "a.json", "a test") == value
    assert (tmp_path / "a.json").read_text().endswith("}\n")


def test_nan_is_not_json(tmp_path):
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "a.json", {"a": float("nan")})
    assert tree(tmp_path) == {}


def test_missing_json_is_named_with_what_it_is(tmp_path):
    with pytest.raises(UserError, match=r"none\.json: not found; the sidecar of an engine was expected there"):
        files.read_json(tmp_path / "none.json", "the sidecar of an engine")


@pytest.mark.parametrize("text", [b"", b'{"a": ', b"\xff\xfe\x00"])
def test_damaged_json_is_named_with_what_it_is(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(UserError, match=r"a\.json: is not JSON .*a sidecar was expected, remove the file"):
        files.read_json(tmp_path / "a.json", "a sidecar")


def test_a_digest_is_that_of_the_bytes(tmp_path):
    data = np.random.default_rng(0).bytes(3 << 20)
    (tmp_path / "a").write_bytes(data)
    assert files.digest(tmp_path / "a") == hashlib.sha256(data).hexdigest()
    assert files.digest(tmp_path / "a", "md5") == hashlib.md5(data).hexdigest()


def test_a_sidecar_has_the_stem_of_its_file():
    assert files.sidecar_path("a.b/bs8.onnx") == Path("a.b/bs8.json")


def test_too_little_free_space_is_refused(tmp_path):
    files.require_free_space(tmp_path / "not" / "yet", 1, "a bin")
    need = shutil.disk_usage(tmp_path).total + (1 << 40)
    with pytest.raises(UserError) as error:
        files.require_free_space(tmp_path / "not" / "yet", need, "the shard")
    assert re.fullmatch(
        rf"{re.escape(str(tmp_path))}: the shard needs [\d.]+ GB but only [\d.]+ GB are free; free some space, .*",
        str(error.value),
    )


def test_system_errors_reach_the_user_in_one_line(tmp_path, command, mixer_onnx):
    mixer_onnx(tmp_path / "bs4.onnx")
    (tmp_path / "out").write_text("a file where a folder is needed")
    finished = command("infer", "--model", tmp_path / "bs4.onnx", "--output", tmp_path / "out" / "deeper")
    assert finished.returncode == 1
    assert finished.stderr.startswith("error: ") and finished.stderr.count("\n") == 1
    assert str(tmp_path / "out") in finished.stderr
