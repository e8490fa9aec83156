"""One user of a device at a time. What two processes do to each other is in test_measure.py and test_devices.py."""

import errno
import fcntl
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from smlp.core import lock
from smlp.core.cli import UserError

SCRIPTS = str(Path(__file__).parents[3] / "scripts")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the locks are."""
    monkeypatch.setenv("SMLP_LOCK_DIR", str(tmp_path))
    return tmp_path


def own_line():
    return f"process {os.getpid()} of user {os.getuid()}"


def test_the_lock_says_who_holds_it(folder, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scripts/measure.py", "--model", "my engine.om"])
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with lock.hold("ascend:0", exclusive=True) as held:
        assert held == "ascend:0"
        (path,) = folder.iterdir()
        assert path.name == "smlp-sweep-ascend-0.lock"
        assert re.fullmatch(
            own_line() + r" \(Slurm job 17\) since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d: "
            r"scripts/measure\.py --model 'my engine\.om'\n",
            path.read_text(),
        )
        assert path.stat().st_mode & 0o777 == 0o666  # for other users of the machine


def test_devices_are_independent(folder, capsys):
    with lock.hold("ascend:0", exclusive=True), lock.hold("ascend:1", exclusive=True):
        pass
    assert capsys.readouterr().err == ""


def test_a_shared_lock_is_shared_and_names_everybody(folder, capsys):
    with lock.hold("cpu", exclusive=False), lock.hold("cpu", exclusive=False):
        lines = (folder / "smlp-sweep-cpu.lock").read_text().splitlines()
    assert len(lines) == 2 and all(line.startswith(own_line()) for line in lines)
    assert capsys.readouterr().err == ""


def test_a_free_one_of_several_is_taken(folder, capsys):
    with lock.hold("ascend:3", exclusive=True), lock.hold("ascend:3", "ascend:5", exclusive=True) as held:
        assert held == "ascend:5"
    with lock.hold("ascend:3", "ascend:5", exclusive=True) as held:
        assert held == "ascend:3"
        with lock.hold("ascend:5", exclusive=True):  # which was only looked at
            pass
    assert capsys.readouterr().err == ""


def test_a_process_that_waits_for_several_takes_the_first_free_one(folder, capsys, monkeypatch):
    with lock.hold("ascend:0", exclusive=True):
        descriptor = os.open(folder / "smlp-sweep-ascend-1.lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        monkeypatch.setattr(lock.time, "sleep", lambda seconds: os.close(descriptor))
        with lock.hold("ascend:0", "ascend:1", exclusive=True) as held:
            assert held == "ascend:1"
    assert [line[:28] for line in capsys.readouterr().err.splitlines()] == [
        "waiting for device ascend:0,",
        "waiting for device ascend:1,",
    ]


def test_a_waiting_process_logs_the_living_holders(folder):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path = folder / "smlp-sweep-cpu.lock"
    with lock.hold("cpu", exclusive=True):
        with open(path, "a") as stream:
            stream.write(f"process {ended.pid} of user 0 since then: gone\nprocess x\n")
        code = "import sys; from smlp.core import lock\nwith lock.hold('cpu', exclusive=True): print('held')"
        environment = {**os.environ, "PYTHONPATH": SCRIPTS}
        waiting = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        said = waiting.stderr.readline()
    assert waiting.communicate(timeout=60)[0] == "held\n"
    assert said.startswith(f"waiting for device cpu, used by {own_line()} since ") and "gone" not in said


def test_a_compiler_that_tries_its_kernels_on_a_gpu_waits_for_it(folder):
    (folder / "x.pth").touch()
    command = [sys.executable, f"{SCRIPTS}/compile.py", "--backend", "aotinductor", "--option", "device=cuda"]
    command += ["--batch_size", "1", "--pth_path", folder / "x.pth", "--output", folder / "x.pt2"]
    with lock.hold("cuda:0", exclusive=True):
        waiting = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        said = waiting.stderr.readline()
    assert waiting.communicate(timeout=120)[1].startswith("error: ") and waiting.returncode == 1
    assert said.startswith(f"waiting for device cuda:0, used by {own_line()} since ")


def test_a_lock_is_released_on_an_error(folder, capsys):
    with pytest.raises(ZeroDivisionError), lock.hold("cpu", exclusive=True):
        raise ZeroDivisionError
    with lock.hold("cpu", exclusive=True):
        pass
    assert capsys.readouterr().err == ""


def test_a_shorter_holder_leaves_nothing_of_a_longer_one(folder):
    path = folder / "smlp-sweep-cpu.lock"
    path.write_text("process 123456789123456789 of user 1234567\nand more\n" * 100)
    with lock.hold("cpu", exclusive=False):
        assert path.read_text().startswith(own_line()) and path.read_text().count("\n") == 1


def test_a_device_that_a_scheduler_gave_has_the_hosts_name(folder, monkeypatch):
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "6,7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8f2c")
    assert lock.physical("ascend:1") == "ascend:7" and lock.physical("ascend:2") == "ascend:2"
    assert lock.physical("cuda:0") == "cuda:GPU-8f2c" and lock.physical("cuda") == "cuda"
    assert lock.physical("cpu") == "cpu"
    with lock.hold("ascend:0", exclusive=True):
        assert [path.name for path in folder.iterdir()] == ["smlp-sweep-ascend-6.lock"]


def test_everybody_comes_to_the_same_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("SMLP_LOCK_DIR")
    for name, mode in (("own", 0o755), ("everybody's", 0o1777), ("another", 0o1777)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    places = [str(tmp_path / name) for name in ("absent", "own", "everybody's", "another")]
    monkeypatch.setattr(lock, "_FOLDERS", places)
    assert lock.folder() == tmp_path / "everybody's"
    monkeypatch.setattr(lock, "_FOLDERS", places[:2])
    with pytest.raises(UserError, match="no folder for device locks: .*; name one: SMLP_LOCK_DIR"):
        lock.folder()


def test_a_missing_lock_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SMLP_LOCK_DIR", str(tmp_path / "absent"))
    with (
        pytest.raises(UserError, match=r"absent/smlp-sweep-cpu\.lock: cannot open .*No such file.* SMLP_LOCK_DIR"),
        lock.hold("cpu", exclusive=True),
    ):
        pytest.fail("must not be held")


def test_a_device_name_cannot_leave_the_folder(folder):
    with lock.hold("../../etc/x", exclusive=True):
        assert [path.name for path in folder.iterdir()] == ["smlp-sweep--etc-x.lock"]


@pytest.mark.parametrize("kind", ["dangling link", "link", "hard link", "pipe"])
def test_what_is_planted_is_not_written_to(folder, kind):
    target = folder / "somebody's file"
    path = folder / "smlp-sweep-cpu.lock"
    if "dangling" not in kind:
        target.write_text("theirs")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "hard link":
        os.link(target, path)
    else:
        path.symlink_to(target)
    with (
        pytest.raises(UserError, match=r"smlp-sweep-cpu\.lock: cannot open the lock of device cpu .*; remove the file"),
        lock.hold("cpu", exclusive=True),
    ):
        pytest.fail("must not be held")
    assert target.exists() is ("dangling" not in kind)
    if target.exists():
        assert target.read_text() == "theirs" and stat.S_IMODE(target.stat().st_mode) != 0o666


def test_another_users_lock_file_serves_too(folder, monkeypatch):
    """Linux refuses to open with O_CREAT what others own in /tmp (fs.protected_regular)."""
    path = folder / "smlp-sweep-cpu.lock"
    path.touch()
    real = os.open

    def protected(name, flags, *mode):
        if str(name) == str(path) and flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "Permission denied", name)
        return real(name, flags, *mode)

    monkeypatch.setattr(os, "open", protected)
    with lock.hold("cpu", exclusive=True):
        assert path.read_text().startswith(own_line())
