"""Downloads from a real server that misbehaves in the ways that servers do."""

import hashlib
import http.server
import shutil
import socket
import ssl
import threading

import numpy as np
import pytest

from smlp.core import download, files
from smlp.core.cli import UserError

CONTENT = np.random.default_rng(0).bytes(1_000_000)
# self-signed, for the host name localhost, valid until 2126; a key that protects nothing
LOCALHOST_PEM = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgY41FCDiSzcPYszTr
uq+RD6nysaN80RoI7VEQ0jBPIe6hRANCAASaHFp/7BfTBvrAmlk0Bo77dCwVE7/B
HNfemL4/odQvulIOeBWsCCk2Rg/6RHtwai8sso9VorzOverMko8eiSeK
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBYTCCAQegAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMDAwMTAxMDAwMDAwWhgPMjEyNjAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABJocWn/sF9MG+sCa
WTQGjvt0LBUTv8Ec196Yvj+h1C+6Ug54FawIKTZGD/pEe3BqLyyyj1WivM696syS
jx6JJ4qjSDBGMBQGA1UdEQQNMAuCCWxvY2FsaG9zdDAPBgNVHRMBAf8EBTADAQH/
MB0GA1UdDgQWBBT9hwEz5KRlCjBeWY837ChpvB3qkjAKBggqhkjOPQQDAgNIADBF
AiEAx9IdoYKRmeh31ZruMq1D60u7dpYV3zINHnvctpTozf4CIBfQXQAA+4IzTRrm
xmYubeOnRMVTGH+nrR+4JVbpKNbi
-----END CERTIFICATE-----
"""
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


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.content, running.etag, running.last_modified = CONTENT, '"one"', None
        running.script, running.requests = [], []
        running.url = f"http://127.0.0.1:{running.server_port}/a%20file.pth"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "some results" / "checkpoint.pth"


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


# whole transfers


def test_download_with_checksums(server, target):
    sums = {name: hashlib.new(name, CONTENT).hexdigest().upper() for name in ("md5", "sha256")}
    download.fetch(server.url, target, **sums)
    assert complete(target)
    assert server.requests == [("/a%20file.pth", None, None)]


def test_download_without_a_stated_length(server, target):
    server.script = [how(length=False)]
    download.fetch(server.url, target)
    assert complete(target)


@pytest.mark.parametrize("size_bytes", [1, 1000, (1 << 18) + 1])
def test_checksum_covers_the_last_byte(server, target, size_bytes):
    server.content = CONTENT[:size_bytes]
    download.fetch(server.url, target, md5=hashlib.md5(server.content).hexdigest())
    assert complete(target, server.content)


def test_spaces_and_other_letters_are_encoded_once(server, target):
    download.fetch(server.url.replace("a%20file", "验收 %41") + "?x=ü&y=a b#part", target)
    assert server.requests[0][0] == "/%E9%AA%8C%E6%94%B6%20%41.pth?x=%C3%BC&y=a%20b"


def test_redirect_is_followed(server, target):
    server.script = [answer(302, Location="/elsewhere"), answer(307, Location=server.url)]
    download.fetch(server.url, target)
    assert complete(target)
    assert [path for path, *_ in server.requests] == ["/a%20file.pth", "/elsewhere", "/a%20file.pth"]


def test_redirect_to_a_local_file_is_refused(server, target):
    server.script = [answer(302, Location="file:///etc/hostname")]
    assert "file:///etc/hostname" in error_of(server.url, target)
    assert left(target) == []


def test_proxy_of_the_environment_is_used(server, target, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    download.fetch("http://nowhere.invalid/x.pth", target)
    assert complete(target)
    assert server.requests[0][0] == "http://nowhere.invalid/x.pth"


def test_an_older_file_is_replaced_only_by_a_good_one(server, target):
    target.parent.mkdir()
    target.write_text("older")
    server.script = [answer(404)]
    with pytest.raises(UserError):
        download.fetch(server.url, target)
    assert complete(target, b"older")
    download.fetch(server.url, target)
    assert complete(target)


# retries and continuing


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


def test_last_modified_serves_where_there_is_no_etag(server, target):
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


def test_server_that_closes_without_an_answer(server, target):
    def hang_up(handler):
        handler.close_connection = True

    server.script = [hang_up]
    download.fetch(server.url, target, retry_waits_s=NOW)
    assert complete(target)


# what is not kept


def test_wrong_checksum_names_both_and_keeps_nothing(server, target):
    wanted = "0" * 32
    message = error_of(server.url, target, md5=wanted)
    assert wanted in message
    assert hashlib.md5(CONTENT).hexdigest() in message
    assert left(target) == []


def test_continued_download_with_a_wrong_checksum_is_not_continued_again(server, target):
    broken_off(server, target)
    server.content = bytes(400_000) + CONTENT[400_000:]  # changed under the same ETag
    right = hashlib.sha256(server.content).hexdigest()
    assert right in error_of(server.url, target, sha256=right)
    assert left(target) == []
    download.fetch(server.url, target, sha256=right)
    assert complete(target, server.content)


@pytest.mark.parametrize("local", [False, True])
def test_check_decides_and_sees_the_complete_file(server, target, tmp_path, local):
    (tmp_path / "file").write_bytes(CONTENT)
    source = str(tmp_path / "file") if local else server.url
    seen = []

    def check(path):
        seen.append(path.read_bytes() == CONTENT and not target.exists())
        path.with_suffix(".json").write_text("{}")
        if len(seen) == 1:
            raise UserError("not this one")

    assert error_of(source, target, check=check) == "not this one"
    assert left(target) == []
    download.fetch(source, target, check=check)
    assert seen == [True, True]
    assert left(target) == ["checkpoint.json", "checkpoint.pth"]


@pytest.mark.parametrize("sums", [{"md5": "12"}, {"sha256": "0" * 63 + "x"}, {"md5": "0" * 64}])
def test_checksum_that_is_none_is_refused_first(server, target, sums):
    assert "hexadecimal digits" in error_of(server.url, target, **sums)
    assert not server.requests
    assert not target.parent.exists()


def test_two_at_a_time_are_refused(server, target):
    def meanwhile(handler):
        assert "another process" in error_of(server.url, target)
        serve(handler)

    server.script = [meanwhile]
    download.fetch(server.url, target)
    assert complete(target)
    assert len(server.requests) == 1


def test_full_disk_is_seen_before_the_transfer(server, target, monkeypatch):
    usage = shutil.disk_usage(target.parent.parent)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: usage._replace(free=999_999))
    message = error_of(server.url, target)
    assert "0.001 GB" in message
    assert left(target) == []


# unreachable and unfit sources


def test_unreachable_server(target):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/x.pth"
        message = error_of(url, target)
    assert message.startswith(f"{url}: cannot reach the server")
    assert "after 3 attempts" in message
    assert "give the path of the file" in message
    assert left(target) == []


@pytest.fixture
def secure(server, tmp_path):
    """The same server over https, as localhost, with a certificate that signs itself."""
    pem = tmp_path / "localhost.pem"
    pem.write_text(LOCALHOST_PEM)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.url = server.url.replace("http://127.0.0.1", "https://localhost")
    server.pem = pem
    return server


def test_certificate_that_nobody_trusts(secure, target):
    message = error_of(secure.url, target)
    assert message.startswith(f"{secure.url}: the server's certificate is not trusted (self-signed certificate)")
    assert "SSL_CERT_FILE" in message
    assert not secure.requests
    assert left(target) == []


def test_certificate_of_the_environment_is_trusted(secure, target, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.pem))
    download.fetch(secure.url, target)
    assert complete(target)


def test_redirect_from_https_to_http_is_refused(secure, target, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.pem))
    secure.script = [answer(302, Location="http://localhost/x.pth")]
    assert "redirects from https to http://localhost/x.pth" in error_of(secure.url, target)
    assert left(target) == []


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("ftp://host/x.pth", "scheme 'ftp' is not supported"),
        ("s3://bucket/x.pth", "scheme 's3' is not supported"),
        ("data://text/plain,x", "scheme 'data' is not supported"),
        ("file://other/x.pth", "another host"),
        ("https:///x.pth", "no valid host name"),
        ("http://host:port/x.pth", "is no valid URL"),
        ("http://[host/x.pth", "is no valid URL"),
        ("no/such.pth", "no/such.pth: no such file"),
        ("file:///no/such.pth", "file:///no/such.pth: no such file"),
        ("", "no file"),
        ("http:/host/x.pth", "http:/host/x.pth: no such file"),
    ],
)
def test_sources_that_are_none(target, source, named):
    assert named in error_of(source, target)
    assert not target.parent.exists() or left(target) == []


def test_password_in_a_url_is_refused_and_not_repeated(target):
    message = error_of("https://me:secret@host/x.pth", target)
    assert "password" in message
    assert "secret" not in message


# local files


@pytest.mark.parametrize("as_url", [False, True])
def test_local_file_is_copied(target, tmp_path, as_url):
    source = tmp_path / "a file ü.pth"
    source.write_bytes(CONTENT)
    download.fetch(source.as_uri() if as_url else str(source), target, md5=hashlib.md5(CONTENT).hexdigest())
    assert complete(target)
    assert source.exists()


def test_local_file_may_be_the_target(target):
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    download.fetch(str(target), target)
    assert complete(target)


def test_local_file_with_a_wrong_checksum(target, tmp_path):
    (tmp_path / "x").write_bytes(CONTENT)
    wanted = "f" * 64
    message = error_of(str(tmp_path / "x"), target, sha256=wanted)
    assert wanted in message
    assert hashlib.sha256(CONTENT).hexdigest() in message
    assert left(target) == []


def test_folder_is_no_source(target, tmp_path):
    assert "is no file" in error_of(str(tmp_path), target)
