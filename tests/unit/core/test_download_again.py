"""Transfers that break off: what is tried again, what is continued, and what begins anew."""

import hashlib

import pytest
from file_server import CONTENT, NOW, answer, broken_off, complete, cut_chunks, error_of, how, left, send

from smlp.core import download


def test_server_that_is_busy_is_asked_again(server, target, capsys):
    server.script = [answer(503), answer(429)]
    download.fetch(server.url, target, retry_waits_s=NOW)
    assert complete(target)
    assert "503" in capsys.readouterr().err


def test_waits_between_attempts_are_those_given(server, target, monkeypatch):
    waited = []
    monkeypatch.setattr(download.time, "sleep", waited.append)
    server.script = [answer(500)] * 6
    assert "500" in error_of(server.url, target, waits=download.RETRY_WAITS_S)
    assert waited == [1, 2, 4, 8, 16]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_refusals_are_final(server, target, status):
    server.script = [answer(status)]
    message = error_of(server.url, target)
    assert f"{server.url}: the server answered {status}" in message
    assert "download it by hand" in message
    assert len(server.requests) == 1
    assert left(target) == []


def test_cut_transfer_is_continued(server, target):
    server.script = [how(cut=300_000), how(cut=200_000)]
    download.fetch(server.url, target, sha256=hashlib.sha256(CONTENT).hexdigest(), retry_waits_s=NOW)
    assert complete(target)
    assert [wanted for _, *wanted in server.requests] == [
        [None, None],
        ["bytes=300000-", '"one"'],
        ["bytes=500000-", '"one"'],
    ]


def test_next_run_continues(server, target):
    broken_off(server, target)
    download.fetch(server.url, target)
    assert complete(target)
    assert server.requests == [("/a%20file.pth", "bytes=400000-", '"one"')]


def test_last_modified_serves_if_there_is_no_etag(server, target):
    server.etag, server.last_modified = None, "Sat, 01 Aug 2026 10:00:00 GMT"
    broken_off(server, target)
    download.fetch(server.url, target)
    assert complete(target)
    assert server.requests[0][1:] == ("bytes=400000-", server.last_modified)


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_validator_it_begins_anew(server, target, etag):
    server.etag = etag
    broken_off(server, target)
    download.fetch(server.url, target)
    assert complete(target)
    assert server.requests[0][1:] == (None, None)


def test_server_without_ranges_begins_anew(server, target):
    broken_off(server, target)
    server.script = [how(ranges=False)]
    download.fetch(server.url, target)
    assert complete(target)


def test_changed_file_begins_anew(server, target):
    broken_off(server, target)
    server.content, server.etag = CONTENT[::-1], '"two"'
    download.fetch(server.url, target)
    assert complete(target, CONTENT[::-1])


def test_changed_file_begins_anew_though_the_server_ignores_if_range(server, target):
    broken_off(server, target)
    server.content, server.etag = CONTENT[::-1], '"two"'
    server.script = [how(if_range=False)]
    download.fetch(server.url, target, retry_waits_s=NOW)
    assert complete(target, CONTENT[::-1])
    assert [wanted for _, wanted, _ in server.requests] == ["bytes=400000-", None]


def test_rest_from_another_place_is_not_appended(server, target):
    broken_off(server, target)
    wrong = {"Content-Length": 5, "Content-Range": "bytes 0-4/1000000", "ETag": '"one"'}
    server.script = [lambda handler: send(handler, 206, wrong, CONTENT[:5])]
    download.fetch(server.url, target, retry_waits_s=NOW)
    assert complete(target)


def test_file_that_shrank_begins_anew(server, target):
    broken_off(server, target)
    server.content = CONTENT[:1000]
    download.fetch(server.url, target, retry_waits_s=NOW)
    assert complete(target, CONTENT[:1000])
    assert [wanted for _, wanted, _ in server.requests] == ["bytes=400000-", None]


def test_part_of_another_url_is_not_continued(server, target):
    broken_off(server, target)
    download.fetch(server.url + "?version=2", target)
    assert complete(target)
    assert server.requests == [("/a%20file.pth?version=2", None, None)]


@pytest.mark.parametrize("act", [how(cut=10), cut_chunks, how(cut=0)])
def test_transfer_that_always_breaks_never_becomes_the_file(server, target, act):
    server.script = [act] * 3
    server.etag = 'W/"weak"'
    message = error_of(server.url, target)
    assert "after 3 attempts" in message
    assert "download it by hand" in message


def test_empty_answer_is_no_file(server, target):
    server.content = b""
    assert "empty file" in error_of(server.url, target)
    assert left(target) == []


def test_a_server_that_closes_without_an_answer_is_asked_again(server, target):
    def hang_up(handler):
        handler.close_connection = True

    server.script = [hang_up]
    download.fetch(server.url, target, retry_waits_s=NOW)
    assert complete(target)
