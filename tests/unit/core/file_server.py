"""A file server that misbehaves in the ways that servers do, and what a download from it leaves behind."""

import http.server

import numpy as np
import pytest

from smlp.core import download
from smlp.core.cli import UserError

CONTENT = np.random.default_rng(0).bytes(1_000_000)
NOW = (0.0, 0.0)  # two further attempts, no waiting


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.content` with ranges. Each request first takes the next of `server.script`, if any is left."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers["Range"], self.headers["If-Range"]))
        act = server.script.pop(0) if server.script else serve
        act(self)

    def log_message(self, *arguments):
        pass


def serve(handler, cut=None, ranges=True, if_range=True, length=True):
    """The content, or the rest of it that was asked for; the connection ends after `cut` bytes of it."""
    server, content, status = handler.server, handler.server.content, 200
    wanted, validator = handler.headers["Range"], handler.headers["If-Range"]
    same = not if_range or validator in (server.etag, server.last_modified)
    start = int(wanted[len("bytes=") : -1]) if wanted and ranges and same else 0
    if start >= len(content) > 0 and start:
        return answer(416)(handler)
    headers = {}
    if start:
        status, headers["Content-Range"] = 206, f"bytes {start}-{len(content) - 1}/{len(content)}"
    body = content[start:]
    if length:
        headers["Content-Length"] = len(body)
    if server.etag:
        headers["ETag"] = server.etag
    if server.last_modified:
        headers["Last-Modified"] = server.last_modified
    send(handler, status, headers, body[:cut])
    handler.close_connection = True


def send(handler, status, headers, body=b""):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, str(value))
    handler.end_headers()
    handler.wfile.write(body)


def how(**options):
    return lambda handler: serve(handler, **options)


def answer(status, **headers):
    return lambda handler: send(handler, status, {"Content-Length": 0, **headers})


def cut_chunks(handler):
    """A chunked answer whose connection ends before the last chunk."""
    body = f"{1000:x}\r\n".encode() + CONTENT[:1000] + b"\r\n"
    send(handler, 200, {"Transfer-Encoding": "chunked", "ETag": handler.server.etag}, body)
    handler.close_connection = True


def left(target):
    """What lies in the target's folder, hidden files included."""
    return sorted(path.name for path in target.parent.iterdir())


def complete(target, content=CONTENT):
    return target.read_bytes() == content and left(target) == [target.name]


def error_of(source, target, waits=NOW, **options):
    with pytest.raises(UserError) as error:
        download.fetch(source, target, retry_waits_s=waits, **options)
    assert not target.exists()
    return " ".join(str(error.value).split())


def broken_off(server, target, at=400_000):
    """Leave a download that broke off behind, as a killed process would."""
    server.script = [how(cut=at)]
    error_of(server.url, target, waits=())
    server.requests.clear()
    assert left(target) == [".checkpoint.pth.download", ".checkpoint.pth.download.json"]
