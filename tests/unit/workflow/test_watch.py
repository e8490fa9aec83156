"""Files from outside are known by their content, and read again only if what the file system says has moved."""

import json
import os
import shutil
import time

import pytest

from smlp.core import files
from smlp.core.cli import UserError
from smlp.workflow import watch
from smlp.workflow.watch import Watch


@pytest.fixture
def settled(monkeypatch):
    """Files are old enough to be remembered as soon as they are written."""
    monkeypatch.setattr(watch, "SETTLED_NS", -(10**18))


@pytest.fixture
def reads(monkeypatch):
    """The names of the files that were read."""
    names = []
    digest = files.digest

    def counted(path):
        names.append(os.path.basename(path))
        return digest(path)

    monkeypatch.setattr(files, "digest", counted)
    return names


@pytest.fixture
def look(tmp_path):
    """A function: what a new plan says about a path, written down for the next one."""

    def ask(path, kind="digest"):
        watching = Watch(tmp_path / "results" / "host.json")
        found = getattr(watching, kind)(path)
        watching.save()
        return found

    return ask


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"old bytes")
    return path


def test_an_unchanged_file_is_read_once(settled, look, file, reads):
    assert look(file) == look(file) == files.digest(file)
    assert reads == ["weights.pth"] * 2  # the second time by this test itself


def test_a_touched_file_is_read_again_and_is_the_same(settled, look, file, reads):
    before = look(file)
    os.utime(file, (1_000_000_000, 1_000_000_000))
    assert look(file) == before
    assert reads == ["weights.pth"] * 2


def restored(file):
    """As cp -p, mv, rsync -a and unzip do: other bytes, an older time."""
    other = file.with_name("other.pth")
    other.write_bytes(b"completely other bytes")
    os.utime(other, (1_000_000_000, 1_000_000_000))
    shutil.copy2(other, file)


def moved(file):
    """Another inode, of the same size and time of content."""
    other, found = file.with_name("other.pth"), file.stat()
    other.write_bytes(b"new bytes")
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    os.replace(other, file)


def overwritten(file):
    """The same inode, size and time of content."""
    found = file.stat()
    time.sleep(0.02)  # longer than a tick of the file system's clock
    file.write_bytes(b"new bytes")
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert file.stat().st_mtime_ns == found.st_mtime_ns and file.stat().st_ino == found.st_ino


@pytest.mark.parametrize("change", [restored, moved, overwritten])
def test_other_bytes_are_found_whatever_the_times_say(settled, look, file, change):
    before = look(file)
    change(file)
    assert look(file) == files.digest(file) != before


def test_a_young_file_is_read_again_until_it_has_settled(look, file, reads, monkeypatch, tmp_path):
    assert look(file) == look(file)
    assert reads == ["weights.pth"] * 2
    assert not (tmp_path / "results").exists()  # nothing to remember
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + 3 * 10**9)
    assert look(file) == look(file)
    assert reads == ["weights.pth"] * 3


def test_a_file_that_changes_while_it_is_read_is_not_remembered(settled, look, file, reads, monkeypatch):
    digest = files.digest

    def slow(path):
        found = digest(path)
        with open(path, "ab") as stream:
            stream.write(b"more")
        return found

    with monkeypatch.context() as busy:
        busy.setattr(files, "digest", slow)
        look(file)
    assert len(reads) == 3  # the attempts
    assert look(file) == digest(file)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"[" * 100_000, b"\xff", b'{"files": 3}', b'{"files": {"%s": 3}}', b'{"files": null}']
)
def test_a_damaged_memory_is_made_anew(settled, look, file, reads, tmp_path, content):
    memory = tmp_path / "results" / "host.json"
    memory.parent.mkdir()
    memory.write_bytes(content.replace(b"%s", str(file).encode()))
    assert look(file) == look(file)
    assert reads == ["weights.pth"]
    assert list(json.loads(memory.read_text())["files"]) == [str(file)]


def test_a_memory_that_cannot_be_written_costs_a_line(settled, file, tmp_path, capsys):
    (tmp_path / "results").touch()
    watching = Watch(tmp_path / "results" / "host.json")
    watching.digest(file)
    watching.save()
    assert "host.json: not written" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_stops_with_its_name(look, tmp_path):
    for kind in ("digest", "folder"):
        with pytest.raises(UserError, match=r"missing\.pth: No such file or directory; a plan reads all"):
            look(tmp_path / "missing.pth", kind)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="folder: Is a directory"):
        look(tmp_path / "folder")


def test_many_files_have_the_digests_of_each(settled, tmp_path, reads):
    paths = [tmp_path / f"{number}.JPEG" for number in range(1000)]
    for path in paths:
        path.write_text(path.name)
    watching = Watch(tmp_path / "host.json")
    found = watching.digests(paths)
    assert found == watching.digests(paths)
    assert sorted(reads) == sorted(path.name for path in paths)
    assert found == [files.digest(path) for path in paths]
    paths[500].unlink()
    with pytest.raises(UserError, match="/500.JPEG: No such file"):
        watching.digests(paths)


def test_a_folder_is_the_names_and_contents_in_it(settled, look, tmp_path):
    folder = tmp_path / "shard-0"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "1.npy").write_bytes(b"1")
    (folder / "0.npy").write_bytes(b"0")
    before = look(folder, "folder")
    (folder / ".snakemake_timestamp").touch()
    os.utime(folder / "0.npy", (1, 1))
    os.utime(folder, (1, 1))
    assert look(folder, "folder") == before
    seen = {before}
    for change in (
        lambda: (folder / "below" / "1.npy").write_bytes(b"2"),
        lambda: (folder / "below" / "1.npy").rename(folder / "1.npy"),
        lambda: (folder / "2.npy").touch(),
    ):
        change()
        seen.add(look(folder, "folder"))
    assert len(seen) == 4


def test_who_waits_is_told_why_once(settled, file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(watch, "_PATIENCE_S", 0.01)
    digest = files.digest
    monkeypatch.setattr(files, "digest", lambda path: time.sleep(0.1) or digest(path))
    watching = Watch(tmp_path / "host.json")
    for number in range(3):
        other = tmp_path / f"{number}.pth"
        other.touch()
        watching.digest(other)
    assert capsys.readouterr().err == "reading what comes from outside, to see what has changed …\n"
