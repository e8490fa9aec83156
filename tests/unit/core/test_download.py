"""Downloads and copies: they are complete and checked, or they do not appear."""

import hashlib
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from file_server import CONTENT, answer, broken_off, complete, error_of, how, left, serve

from smlp.core import download, files
from smlp.core.cli import UserError

SCRIPTS = Path(download.__file__).parents[2]


def test_a_download_with_the_right_checksums_is_kept(server, target):
    sums = {name: hashlib.new(name, CONTENT).hexdigest().upper() for name in ("md5", "sha256")}
    download.fetch(server.url, target, **sums)
    assert complete(target)
    assert server.requests == [("/a%20file.pth", None, None)]


def test_a_download_without_a_stated_length_is_kept(server, target):
    server.script = [how(length=False)]
    download.fetch(server.url, target)
    assert complete(target)


def test_memory_does_not_grow_with_the_file(server, target):
    """Peaks of fresh processes, in MB."""
    code = "import sys; from pathlib import Path; from smlp.core import disturbance, download; "
    code += "download.fetch(sys.argv[1], Path(sys.argv[2])); print(disturbance.peak_memory_mb())"
    peaks = []
    for size_bytes in (8_000_000, 80_000_000):
        server.content = bytes(size_bytes)
        command = [sys.executable, "-c", code, server.url, target]
        done = subprocess.run(command, cwd=SCRIPTS, capture_output=True, text=True, check=True)
        assert target.stat().st_size == size_bytes
        peaks.append(float(done.stdout))
    assert 5 < peaks[1] < 1.1 * peaks[0]


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
def test_an_invalid_checksum_is_refused_first(server, target, sums):
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


def test_an_unreachable_server_is_named(target):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/x.pth"
        message = error_of(url, target)
    assert message.startswith(f"{url}: cannot reach the server")
    assert "after 3 attempts" in message
    assert "give the path of the file" in message
    assert left(target) == []


def test_a_certificate_that_nobody_trusts_is_refused(secure, target):
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
def test_invalid_sources_are_named(target, source, named):
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


def test_a_local_file_with_a_wrong_checksum_is_refused(target, tmp_path):
    (tmp_path / "x").write_bytes(CONTENT)
    wanted = "f" * 64
    message = error_of(str(tmp_path / "x"), target, sha256=wanted)
    assert wanted in message
    assert hashlib.sha256(CONTENT).hexdigest() in message
    assert left(target) == []


def test_a_folder_is_refused(target, tmp_path):
    assert "is no file" in error_of(str(tmp_path), target)
