"""workers.py: the order of results, what runs where, and workers that die."""

import contextlib
import functools
import operator
import os
import time

import pytest

from smlp.core import cli, workers


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_results_come_in_the_order_of_the_chunks(processes):
    # the first chunks take longest
    delays = [0.2, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    chunks = [(delay, number) for number, delay in enumerate(delays)]
    assert list(workers.in_order(_slowly, chunks, processes)) == list(range(10))


def _slowly(chunk):
    delay, number = chunk
    time.sleep(delay)
    return number


def _process(_):
    return os.getpid()


def test_one_worker_or_one_chunk_is_done_in_this_process():
    assert set(workers.in_order(_process, range(3), 1)) == {os.getpid()}
    assert list(workers.in_order(_process, [0], 4)) == [os.getpid()]


def test_several_workers_are_other_processes():
    assert os.getpid() not in set(workers.in_order(_process, range(8), 2))


def test_each_worker_runs_the_start_function_first(tmp_path):
    begin = functools.partial(os.chdir, tmp_path)
    assert set(workers.in_order(os.path.abspath, ["here"] * 4, 2, begin)) == {str(tmp_path / "here")}


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_of_the_work_reaches_the_consumer(processes):
    with pytest.raises(ZeroDivisionError):
        list(workers.in_order(functools.partial(operator.truediv, 1), [1, 0, 2], processes))


def test_a_dead_worker_is_an_error_that_says_what_to_do():
    with pytest.raises(cli.UserError, match="one of the 2 worker processes was killed .* fewer --workers"):
        list(workers.in_order(os._exit, [1, 1, 1], 2))


def test_an_early_end_leaves_the_later_chunks_undone(tmp_path):
    paths = [str(tmp_path / f"{number}") for number in range(100)]
    with contextlib.closing(workers.in_order(os.mkdir, paths, 2)) as results:
        next(results)
    assert 1 <= len(os.listdir(tmp_path)) <= 10


def test_a_log_shows_each_tenth_once(capsys):
    with workers.progress("sort", 40, "letters") as advance:
        for _ in range(40):
            advance(1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("sort: 4/40 letters, ") and lines[-1].endswith(" letters/s, 0 s left")
