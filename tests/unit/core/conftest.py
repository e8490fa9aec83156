"""Fixtures of the tests of core: a server to download from."""

import http.server
import ssl
import threading

import pytest
from file_server import CONTENT, Handler

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
