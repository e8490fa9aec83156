"""A Python that has imported what commands need, and forks for each: sweeps in a fifth of their time.

  python forkserver.py <folder>      serves <folder>/socket; <folder>/python is what is called in place of Python

A call runs what the same words would run, with the caller's folder, environment and outputs; the product's own modules
are imported anew each time. It differs from a plain Python in what libraries read from the environment when they are
imported, in its process group, and if the environment asks for it:

STILL              commands see a clock that stands still, and what they time one that ticks by itself, and they do not
                   see how much memory they take, so that tables depend on nothing but their inputs; plots are empty,
                   since to draw them takes half of the time of the tables
DIE_AT, DIE_COUNT  number and file: as many files as commands give their names are their end, and that of all other
                   processes in the same folder
"""

import _imp
import contextlib
import datetime
import gc
import importlib
import importlib.machinery
import itertools
import json
import multiprocessing.process
import os
import shlex
import signal
import socket
import sys
import time
import traceback
import types
from pathlib import Path

PLAIN = sys.executable
SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
_kept = []
# A path with a blank cannot follow #!.
_STARTER = """#!/bin/sh
exec {python} -ISs {caller} "$@"
"""
_CALLER = """
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
words = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(words).to_bytes(4, "big")], [0, 1, 2])
server.sendall(words)
status = server.recv(1)
os._exit(status[0] if status else 137)
"""


def start(folder):
    """Serve calls for as long as the process lives that has started this one."""
    _import_everything()
    address = str(folder / "socket")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(64)
    listening.settimeout(5)
    parent = os.getppid()
    caller = folder / "python"
    (folder / "caller.py").write_text(_CALLER.format(address=address))
    words = {"python": shlex.quote(sys.executable), "caller": shlex.quote(str(folder / "caller.py"))}
    (folder / "starting").write_text(_STARTER.format(**words))
    (folder / "starting").chmod(0o755)
    gc.collect()
    gc.freeze()  # a fork that collects would copy all pages
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    os.rename(folder / "starting", caller)  # from now on it may be called
    while os.getppid() == parent:
        try:
            connection, _ = listening.accept()
        except TimeoutError:
            continue
        if os.fork():
            connection.close()
            continue
        listening.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            words = _receive(connection)
            worker = os.fork()  # which may become another program
            if not worker:
                connection.close()
                _work(*words, str(caller))
            _, ended = os.waitpid(worker, 0)
            connection.send(bytes([os.waitstatus_to_exitcode(ended) & 255]))
        finally:  # also if the caller is gone
            os._exit(0)


def _import_everything():
    import matplotlib

    matplotlib.use("agg")
    import imagehash  # noqa: F401
    import jinja2  # noqa: F401
    import jsonschema  # noqa: F401
    import matplotlib.backends.backend_agg
    import matplotlib.backends.backend_svg
    import matplotlib.figure
    import matplotlib.style  # noqa: F401
    import onnx.compose  # noqa: F401
    import onnx.inliner  # noqa: F401
    import onnx.version_converter  # noqa: F401
    import onnxruntime  # noqa: F401
    import pandas  # noqa: F401
    import PIL.Image
    import psutil  # noqa: F401
    import pyarrow.pandas_compat
    import pyarrow.parquet  # noqa: F401
    import requests  # noqa: F401
    import scipy.special  # noqa: F401
    import scipy.stats  # noqa: F401
    import smart_open  # noqa: F401
    import snakemake.cli  # noqa: F401
    import torch.onnx  # noqa: F401

    PIL.Image.init()
    sys.path.insert(0, str(SCRIPTS))
    _kept.append(importlib.import_module("smlp.models._torchvision"))  # timm can be imported with its help alone
    import timm.data  # noqa: F401

    sys.path.remove(str(SCRIPTS))
    for name in [name for name in sys.modules if name.partition(".")[0] == "smlp"]:
        del sys.modules[name]
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(None):
        snakemake.cli.parse_args(["--version"])  # which loads its plugins
    _compile_once()


def _compile_once():
    """Whatever is imported with the text of one of the product's files today takes the code that is made of it here."""
    codes = {path.read_bytes(): compile(path.read_bytes(), path, "exec") for path in SCRIPTS.rglob("*.py")}
    loader = importlib.machinery.SourceFileLoader
    anew = loader.source_to_code

    def source_to_code(self, data, path, **options):
        code = codes.get(bytes(data))
        if code is None:
            return anew(self, data, path, **options)
        _imp._fix_co_filename(code, path)  # as Python does with code that it kept
        return code

    loader.source_to_code = source_to_code


def _receive(connection):
    """(arguments, folder, environment) of a call, and its streams in place of this process's own."""
    head, descriptors, _, _ = socket.recv_fds(connection, 4, 3)
    words = bytearray()
    while len(words) < int.from_bytes(head, "big"):
        words += connection.recv(1 << 20)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    return json.loads(words)


def _work(arguments, folder, environment, caller):
    """Run what was called, and end."""
    status = 1
    try:
        os.chdir(folder)
        multiprocessing.process.ORIGINAL_DIR = folder  # in which workers look for the script
        os.environ.clear()
        os.environ.update(environment)
        sys.executable = caller
        try:
            _run(arguments)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(status)


def _run(arguments):
    sys.orig_argv = [sys.executable, *arguments]
    sys.path[1:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.modules.pop("sitecustomize", None)
    with contextlib.suppress(ImportError):
        import sitecustomize  # noqa: F401
    if arguments[:2] == ["-m", "snakemake"]:
        import snakemake.cli

        sys.argv = arguments[1:]
        snakemake.cli.main()
        return
    script = arguments[0]
    if script.startswith("-"):
        os.execv(PLAIN, [PLAIN, *arguments])
    if "DIE_AT" in os.environ:
        sys.addaudithook(_die_at(int(os.environ["DIE_AT"]), os.environ["DIE_COUNT"]))
    if "STILL" in os.environ:
        _stop_the_clock(ticks=script.endswith(("compile.py", "measure.py")))
        _tell_no_memory()
        _draw_nothing()
    sys.argv = arguments
    sys.path.insert(0, str(Path(script).resolve().parent))
    main = types.ModuleType("__main__")
    main.__file__ = script
    sys.modules.update({"__main__": main, "__mp_main__": main})  # as which workers' results name it
    exec(compile(Path(script).read_bytes(), script, "exec"), main.__dict__)


class _Still(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(0, tz)


def _stop_the_clock(ticks):
    """It is always the same time on a machine that is idle; what measures sees a millisecond pass at every look."""
    datetime.datetime = _Still
    time.time = lambda: 0.0
    os.getloadavg = lambda: (0.0, 0.0, 0.0)
    if ticks:
        looks = itertools.count()
        time.perf_counter = lambda: next(looks) / 1000


def _tell_no_memory():
    read_text = Path.read_text
    Path.read_text = lambda path, *how, **more: (
        "" if path == Path("/proc/self/status") else read_text(path, *how, **more)
    )


def _draw_nothing():
    from matplotlib.figure import Figure

    save = Figure.savefig
    Figure.savefig = lambda drawn, path, **options: save(Figure(figsize=(1, 1)), path, **options)


def _die_at(number, count):
    """An audit hook: the process ends, with all others in its folder, at this rename of all commands together."""
    place = os.getcwd()

    def hook(event, arguments):
        if event == "os.rename" and "/results/" in os.path.abspath(arguments[1]):
            with open(count, "ab") as counted:
                counted.write(b".")
            if os.path.getsize(count) == number:
                for process in Path("/proc").glob("[0-9]*"):
                    with contextlib.suppress(OSError):
                        if os.readlink(process / "cwd") == place and int(process.name) != os.getpid():
                            os.kill(int(process.name), signal.SIGKILL)
                os.kill(os.getpid(), signal.SIGKILL)

    return hook


if __name__ == "__main__":
    start(Path(sys.argv[1]))
