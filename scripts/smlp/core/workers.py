"""Work for several processes: a pool that returns results in order and survives signals, and a display of progress."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from . import cli

_Chunk = TypeVar("_Chunk")
_Result = TypeVar("_Result")

# Chunks that each worker may be ahead of the consumer: enough to keep it busy, few enough to bound the memory.
_AHEAD = 3


def in_order(
    work: Callable[[_Chunk], _Result],
    chunks: Sequence[_Chunk],
    workers: int,
    start: Callable[[], None] | None = None,
) -> Iterator[_Result]:
    """work(chunk) for each chunk, in the order of `chunks`, computed by `workers` processes.

    With one worker, or one chunk, this process does the work. Otherwise work, chunks and results are pickled, and
    start() runs first in each new process. A bounded number of results waits for the consumer. Close the iterator to
    stop early: it then drops the waiting chunks and joins the workers. The workers never see Ctrl-C, and they exit if
    this process dies. Raises what work() raises, and UserError if a worker process dies.
    """
    workers = min(workers, len(chunks))
    if workers == 1:
        yield from map(work, chunks)
        return
    # Not fork: it copies locks that other threads hold, and it copies file locks into processes that may outlive us.
    with _ctrl_c_held():
        spawn = multiprocessing.get_context("spawn")
        pool = concurrent.futures.ProcessPoolExecutor(workers, spawn, _start_worker, (start,))
    pending: collections.deque[concurrent.futures.Future[_Result]] = collections.deque()
    try:
        for chunk in chunks:
            with _ctrl_c_held():  # submit() starts workers
                pending.append(pool.submit(work, chunk))
            if len(pending) > _AHEAD * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool:
        raise cli.UserError(
            f"one of the {workers} worker processes was killed or ran out of memory; give the job more memory, or "
            "use fewer --workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _ctrl_c_held() -> Iterator[None]:
    """Delay Ctrl-C until the block ends, and hide it from workers that start in the block: the parent handles it.

    An interrupt during the start of a worker would leave a worker that prints a traceback. A worker inherits the
    blocked signal, so it never sees one, not even during its imports.
    """
    held = []
    previous = signal.signal(signal.SIGINT, lambda *_: held.append(True))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        signal.signal(signal.SIGINT, previous)
    if held:
        raise KeyboardInterrupt


def _start_worker(start: Callable[[], None] | None) -> None:
    """Prepare a new worker: it exits when its parent is gone, for instance after kill -9."""

    def follow_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow_parent, daemon=True).start()
    if start:
        start()


@contextlib.contextmanager
def progress(what: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """A function that takes the number of newly finished items and displays the progress on stderr.

    A terminal shows a bar. A log gets a line each time another tenth is done. what: the name of the work;
    total: how many items there are; unit: what they are called, "images" for instance.
    """
    begin = time.perf_counter()
    done = 0

    def per_second() -> float:
        return done / (time.perf_counter() - begin)

    if sys.stderr.isatty():
        from rich import progress as bars
        from rich.console import Console

        columns = (
            bars.TextColumn(what),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn(f"{{task.fields[per_second]:.0f}} {unit}/s"),
            bars.TimeRemainingColumn(),
        )
        with bars.Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("", total=total, per_second=0.0)

            def advance(items: int) -> None:
                nonlocal done
                done += items
                bar.update(task, completed=done, per_second=per_second())

            yield advance
        return

    def report(items: int) -> None:
        nonlocal done
        tenths = done * 10 // total
        done += items
        if done * 10 // total > tenths:
            rate = per_second()
            cli.say(f"{what}: {done}/{total} {unit}, {rate:.0f} {unit}/s, {(total - done) / rate:.0f} s left")

    yield report
