"""Fetch a file from a path or URL; it appears under its name only when it is complete and its checksum is right.

What a broken transfer leaves stays beside the target (`.<name>.download`), and the next run continues it if the
server says that the file is still the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Callable
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from . import files
from .cli import UserError, say

_HASH_LENGTHS = {"md5": 32, "sha256": 64}
_TIMEOUT_S = 60
_BLOCK_BYTES = 1 << 18
# Seconds before each further attempt. Servers that restart or limit requests are mostly back within half a minute.
RETRY_WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0)
_AGAIN = (408, 425, 429, 500, 502, 503, 504)


class _Broken(Exception):
    """A transfer that may succeed when tried again."""


def fetch(
    source: str,
    target: str | os.PathLike,
    md5: str | None = None,
    sha256: str | None = None,
    check: Callable[[Path], None] | None = None,
    retry_waits_s: Sequence[float] = RETRY_WAITS_S,
    rest: Path | None = None,
) -> None:
    """Bring `source` (a path, or an http, https or file URL) to `target`, whole or not at all.

    md5, sha256: hexadecimal checksums that it must have. retry_waits_s: seconds before each further attempt.
    check: called with the path of the complete file before it gets its name. If it raises, the file does not appear.
    Companions that it writes beside the file come along. rest: beside which name the rest of a broken transfer stays;
    the target unless given.
    Proxies and certificates are those of the environment (https_proxy, no_proxy, SSL_CERT_FILE).
    Raises UserError for everything that goes wrong, saying what to do.
    """
    target = Path(target)
    expected = {name: _checksum(name, text) for name, text in {"md5": md5, "sha256": sha256}.items() if text}
    path = local_path(source)
    if path is not None:
        if not path.is_file():
            raise UserError(f"{source}: {'is no file' if path.exists() else 'no such file'}; check the path")
        files.require_free_space(target.parent, path.stat().st_size, f"a copy of {path.name}")
        with files.whole_file(target) as partial:
            shutil.copyfile(path, partial)
            _accept(source, partial, expected, check)
        return
    with _resumable(rest or target) as stream:
        _download(source, stream, retry_waits_s)
        with files.whole_file(target) as whole:
            # moved away at once: what is refused now must not be continued by the next run
            os.replace(stream.name, whole)
            _accept(source, whole, expected, check)


def beside(source: str, name: str) -> str:
    """The source of the file `name`, a path from the folder that `source` is in."""
    path = local_path(source)
    if path is not None:
        return str(path.parent / name)
    parts = urlsplit(source)
    return urlunsplit(parts._replace(path=parts.path.rpartition("/")[0] + "/" + quote(name)))


def _checksum(name: str, text: str) -> str:
    if not re.fullmatch(rf"[0-9a-fA-F]{{{_HASH_LENGTHS[name]}}}", text):
        raise UserError(f"{name} {text!r}: {_HASH_LENGTHS[name]} hexadecimal digits were expected")
    return text.lower()


def local_path(source: str) -> Path | None:
    """The path that `source` names, None for a URL on a server."""
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", source)
    if not scheme:
        return Path(source)
    if scheme[1].lower() == "file":
        url = urlsplit(source)
        if url.netloc not in ("", "localhost"):
            raise UserError(f"{source}: a file URL of another host; write file:///path, or the path itself")
        return Path(unquote(url.path))
    if scheme[1].lower() not in ("http", "https"):
        raise UserError(f"{source}: scheme {scheme[1]!r} is not supported; give an http, https or file URL, or a path")
    return None


def _accept(source: str, path: Path, expected: dict[str, str], check: Callable[[Path], None] | None) -> None:
    for name, wanted in expected.items():
        found = files.digest(path, name)
        if found != wanted:
            raise UserError(
                f"{source}: {name} is {found} but {wanted} was expected; nothing was kept. "
                "Correct the checksum, or the source"
            )
    if check:
        check(path)


@contextlib.contextmanager
def _resumable(target: Path) -> Iterator[IO[bytes]]:
    """The partial file beside `target`, open for appending and locked; removed afterwards if it is empty."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.download")
    with open(partial, "ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # the process that held it may have finished meanwhile, and what is open here is then its result
            mine = os.path.samestat(os.fstat(stream.fileno()), os.stat(partial))
        except OSError:
            mine = False
        if not mine:
            raise UserError(f"{target}: another process is downloading it; wait for that one to end")
        try:
            yield stream
        finally:
            if not (partial.exists() and partial.stat().st_size):
                partial.unlink(missing_ok=True)
                _record(stream).unlink(missing_ok=True)


def _record(stream: IO[bytes]) -> Path:
    """Beside a partial file, what it is a part of: url, etag, last_modified."""
    return Path(stream.name + ".json")


def _download(url: str, stream: IO[bytes], retry_waits_s: Sequence[float]) -> None:
    """Fill `stream` with the complete file behind `url`, continuing what is there if that is safe."""
    request_url = _quoted(url)
    for wait_s in (*retry_waits_s, None):
        try:
            return _transfer(request_url, stream)
        except _Broken as error:
            if wait_s is None:
                raise UserError(
                    f"{url}: {error}, after {len(retry_waits_s) + 1} attempts; check the network and the proxy "
                    "(https_proxy), or download it by hand and give the path of the file"
                ) from None
            say(f"{url}: {error}; trying again in {wait_s:g} s")
            time.sleep(wait_s)


def _quoted(url: str) -> str:
    """The URL with spaces and non-ASCII letters of its path encoded, as browsers send it."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        parts.port  # noqa: B018  (raises if it is no number)
    except ValueError as error:
        raise UserError(f"{url}: is no valid URL ({error})") from None
    if not host or not host.isascii():
        raise UserError(f"{url}: has no valid host name (write an international one in its xn-- form)")
    if "@" in parts.netloc:
        raise UserError(
            f"{parts.scheme} URL with a password: it would end up in logs and sidecars; download it by hand"
        )
    safe = "/%:;=@!$&'()*+,?~"
    return urlunsplit(parts._replace(path=quote(parts.path, safe), query=quote(parts.query, safe), fragment=""))


def _transfer(url: str, stream: IO[bytes]) -> None:
    """One attempt. Raises _Broken if another may succeed; the bytes that have arrived stay for it."""
    record = _record(stream)
    known = files.read_json(record, "the record of a download") if record.exists() else {}
    # without either, nothing tells whether the rest still belongs to the same file
    validator = known.get("etag") or known.get("last_modified")
    have_bytes = stream.tell() if validator and known["url"] == url else 0
    headers = {"User-Agent": "smlp-sweep", "Accept-Encoding": "identity"}
    if have_bytes:
        headers.update({"Range": f"bytes={have_bytes}-", "If-Range": validator})
    with _open(urllib.request.Request(url, headers=headers), stream) as response:
        found = {"url": url, "etag": _strong_etag(response), "last_modified": response.headers["Last-Modified"]}
        if have_bytes and response.status == 206:
            start, total_bytes = _content_range(response)
            # a server may ignore If-Range and send the rest of another file
            if start != have_bytes or known != found:
                _empty(stream)
                raise _Broken("the file has changed on the server since the download began")
        else:
            length = response.headers["Content-Length"] or ""
            total_bytes = int(length) if length.isdigit() else None
            _empty(stream)
            files.write_json(record, found)
        if total_bytes:
            missing_bytes = total_bytes - stream.tell()
            files.require_free_space(record.parent, missing_bytes, f"the download of {url}")
        _receive(response, stream, url, total_bytes)
    if total_bytes is not None and stream.tell() != total_bytes:
        raise _Broken(f"the connection ended after {stream.tell()} of {total_bytes} bytes")
    if not stream.tell():
        raise _Broken("the server sent an empty file")


def _open(request: urllib.request.Request, stream: IO[bytes]) -> http.client.HTTPResponse:
    by_hand = "or download it by hand and give the path of the file"
    try:
        return urllib.request.build_opener(_Redirects).open(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        # nothing lies behind what is here already: it is of another file, or complete but never confirmed
        if error.code == 416:
            _empty(stream)
            raise _Broken("the server has no more of the file than is here already; it is fetched anew") from None
        problem = f"the server answered {error.code} {error.reason}"
        if error.code in _AGAIN:
            raise _Broken(problem) from None
        raise UserError(f"{request.full_url}: {problem}; check the URL, {by_hand}") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise UserError(
                f"{request.full_url}: the server's certificate is not trusted ({error.reason.verify_message}); "
                f"name the file of your certificates with SSL_CERT_FILE, {by_hand}"
            ) from None
        raise _Broken(f"cannot reach the server ({error.reason})") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(f"cannot reach the server ({_words(error)})") from None


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request: urllib.request.Request, *arguments: Any) -> urllib.request.Request | None:
        new = super().redirect_request(request, *arguments)
        if new is not None and (new.type not in ("http", "https") or (request.type, new.type) == ("https", "http")):
            raise UserError(
                f"{request.full_url}: redirects from {request.type} to {new.full_url}, which is less secure; "
                "download it by hand and give the path of the file"
            )
        return new


def _empty(stream: IO[bytes]) -> None:
    stream.seek(0)
    stream.truncate()


def _strong_etag(response: http.client.HTTPResponse) -> str | None:
    """The ETag if it promises equal bytes; a weak one (W/) does not, and If-Range must not carry it."""
    etag = response.headers["ETag"]
    return etag if etag and not etag.startswith("W/") else None


def _content_range(response: http.client.HTTPResponse) -> tuple[int | None, int | None]:
    """First byte and total size that a partial answer states: Content-Range: bytes 5-99/100."""
    stated = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers["Content-Range"] or "")
    if not stated:
        return None, None
    return int(stated[1]), None if stated[2] == "*" else int(stated[2])


def _receive(response: http.client.HTTPResponse, stream: IO[bytes], url: str, total_bytes: int | None) -> None:
    """Append the answer's body to `stream`, with a bar on stderr if that is a terminal, else one line."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    size = f" of {total_bytes / 1e6:.1f} MB" if total_bytes else ""
    say(f"{url}: downloading from {stream.tell() / 1e6:.1f} MB{size}")
    console = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("", total=total_bytes, completed=stream.tell())
        while True:
            try:
                block = response.read(_BLOCK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise _Broken(f"the connection broke ({_words(error)})") from None
            if not block:
                return
            stream.write(block)
            stream.flush()  # the file is read and renamed while it is still open
            progress.advance(task, len(block))


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
