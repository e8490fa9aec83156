"""What a user sees of a command: exit status 0, 1, 2 or 130, and one line on stderr for what they can mend."""

import argparse
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from smlp.core import cli

SCRIPTS = Path(__file__).parents[3] / "scripts"


def raising(error):
    def main(argv):
        raise error

    return main


def leave(main, capsys):
    """(exit status, stderr) of a command with this `main`."""
    with pytest.raises(SystemExit) as stopped:
        cli.run(main)
    return stopped.value.code, capsys.readouterr().err


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (3, 3)])
def test_status_is_what_main_returns(returned, status, capsys):
    assert leave(lambda argv: returned, capsys) == (status, "")


def test_main_gets_the_command_line(capsys):
    seen = []
    leave(seen.append, capsys)
    assert seen == [None]


def test_user_error_is_one_line(capsys):
    error = cli.UserError("a.pth: is\n  not a checkpoint;\n\nfetch it again")
    assert leave(raising(error), capsys) == (1, "error: a.pth: is not a checkpoint; fetch it again\n")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "out/x.npy"),
            "error: out/x.npy: No space left on device; free some space, or put results/ on a larger disk\n",
        ),
        (OSError(errno.EIO, "Input/output error"), "error: Input/output error\n"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a b"), "error: a b: No such file; check the path\n"),
        (MemoryError(), "error: out of memory; use a smaller --batch_size or fewer --workers\n"),
    ],
)
def test_system_errors_are_one_line(error, line, capsys):
    assert leave(raising(error), capsys) == (1, line)


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        cli.run(lambda argv: 1 // 0)
    with pytest.raises(OSError, match="no errno"):
        cli.run(raising(OSError("no errno, so not from the system")))


def python(code):
    start = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\nfrom smlp.core import cli\n"
    return [sys.executable, "-c", start + code]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a disk that is always full")
def test_a_crash_in_native_code_names_where():
    text = "from smlp.core import cli\ndef main(argv):\n    import ctypes\n    ctypes.string_at(0)\ncli.run(main)"
    done = subprocess.run([sys.executable, "-c", text], cwd=SCRIPTS, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGSEGV
    assert "Segmentation fault" in done.stderr and "in main" in done.stderr


def test_a_full_disk_is_one_line_with_a_hint():
    code = "def main(argv):\n    with open('/dev/full', 'w') as stream: stream.write('x')\ncli.run(main)"
    finished = subprocess.run(python(code), capture_output=True, text=True)
    assert finished.returncode == 1
    assert finished.stderr.startswith("error: No space left on device; free some space")
    assert finished.stderr.count("\n") == 1


def test_ctrl_c_leaves_with_130():
    code = "def main(argv):\n    print('ready', flush=True)\n    sys.stdin.read()\ncli.run(main)"
    with subprocess.Popen(
        python(code), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == "interrupted\n"


@pytest.mark.parametrize("name", ["export", "compile", "infer", "measure"])
def test_help_is_the_docstring_with_every_default(name, command):
    finished = command(name, "--help")
    assert finished.returncode == 0
    assert (SCRIPTS / f"{name}.py").read_text().split('"""')[1].splitlines()[0] in finished.stdout
    assert "(default: " in finished.stdout


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ([], "--model"),
        (["--model", "x", "--modle", "y"], "--modle"),
        (["--model", "x", "--out", "y"], "--out"),  # no abbreviation of --output
        (["--model", "x", "--batchsize", "0"], "'0' is not a whole number of at least 1"),
        (["--model", "x", "--loop", "1.5"], "'1.5' is not a whole number of at least 1"),
        (["--model", "x", "--warmup_count", "-1"], "'-1' is not a whole number of at least 1"),
        (["--model", "x", "--outfmt", "CSV"], "CSV"),
        (["--model", "x", "--backend", "tensorflow"], "tensorflow"),
        (["--model", "x", "–-batchsize", "4"], "–-batchsize"),  # the en dash of a guide
    ],
)
def test_wrong_usage_is_named(flags, word, load_command, capsys):
    with pytest.raises(SystemExit) as stopped:
        load_command("infer").main(flags)
    assert stopped.value.code == 2
    assert word in capsys.readouterr().err


def test_wrong_usage_leaves_with_2(command):
    finished = command("measure", "--model", "x")
    assert finished.returncode == 2
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (cli.positive_int, {"1": 1, "64": 64}, ["0", "-1", "1.0", "", "x", "1e3"]),
        (cli.count, {"0": 0, "7": 7}, ["-1", "0.0", ""]),
        (cli.positive_number, {"0.5": 0.5, "1e-4": 1e-4, "3": 3.0}, ["0", "-1", "nan", "inf", "", "x"]),
    ],
)
def test_flag_types_take_what_they_name_and_refuse_the_rest(kind, good, bad):
    assert {text: kind(text) for text in good} == good
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is not a"):
            kind(text)


def test_or_fail_ends_the_process_with_one_line(capsys):
    assert cli.or_fail(max, 1, 2) == 2
    with pytest.raises(SystemExit) as stopped:
        cli.or_fail(raising(cli.UserError("shard 3: gone")), None)
    assert (stopped.value.code, capsys.readouterr().err) == (1, "error: shard 3: gone\n")


def test_workers_are_the_processors_of_this_process():
    assert cli.default_workers() == len(os.sched_getaffinity(0))
