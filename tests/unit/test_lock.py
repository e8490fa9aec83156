"""One user of a device at a time. What two processes do to each other is in test_measure.py."""

import errno
import os
import tempfile

import pytest

from smlp import lock
from smlp.cli import UserError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder for temporary files, where the locks are."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_lock_says_who_holds_it(folder):
    with lock.hold("ascend:0", exclusive=True):
        (path,) = folder.iterdir()
        assert path.name == "smlp-sweep-ascend-0.lock"
        assert path.read_text() == f"process {os.getpid()} of user {os.getuid()}\n"
        assert path.stat().st_mode & 0o777 == 0o666  # for other users of the machine


def test_devices_are_independent(folder, capsys):
    with lock.hold("ascend:0", exclusive=True), lock.hold("ascend:1", exclusive=True):
        pass
    assert capsys.readouterr().err == ""


def test_a_shared_lock_is_shared(folder, capsys):
    with lock.hold("cpu", exclusive=False), lock.hold("cpu", exclusive=False):
        pass
    assert capsys.readouterr().err == ""


def test_a_lock_is_released_on_an_error(folder, capsys):
    with pytest.raises(ZeroDivisionError), lock.hold("cpu", exclusive=True):
        raise ZeroDivisionError
    with lock.hold("cpu", exclusive=True):
        pass
    assert capsys.readouterr().err == ""


def test_a_shorter_holder_leaves_nothing_of_a_longer_one(folder):
    path = folder / "smlp-sweep-cpu.lock"
    path.write_text("process 123456789123456789 of user 1234567\nand more\n")
    with lock.hold("cpu", exclusive=True):
        assert path.read_text() == f"process {os.getpid()} of user {os.getuid()}\n"


def test_a_device_name_cannot_leave_the_folder(folder):
    with lock.hold("../../etc/x", exclusive=True):
        assert [path.name for path in folder.iterdir()] == ["smlp-sweep--etc-x.lock"]


@pytest.mark.parametrize("dangling", [True, False])
def test_a_planted_link_is_not_followed(folder, dangling):
    target = folder / "somebody's file"
    if not dangling:
        target.write_text("theirs")
    (folder / "smlp-sweep-cpu.lock").symlink_to(target)
    with (
        pytest.raises(UserError, match=r"smlp-sweep-cpu\.lock: cannot open the lock of device cpu .*; remove the file"),
        lock.hold("cpu", exclusive=True),
    ):
        pytest.fail("must not be held")
    assert target.exists() is not dangling
    assert dangling or target.read_text() == "theirs"


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
        assert path.read_text() == f"process {os.getpid()} of user {os.getuid()}\n"
