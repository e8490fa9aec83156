"""A server that speaks the Hugging Face hub's protocol: repositories at commits, files behind a redirect, ranges."""

import hashlib
import http.server
import threading
from contextlib import contextmanager

COMMIT, OLDER = "ab" * 20, "cd" * 20
HUB_VARIABLES = ("HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN", "HF_HUB_DISABLE_XET")


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`, {(repository, revision, file): content}; `server.cut` ends a connection so far into it."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        server, path = self.server, self.path
        if not path.startswith("/api/"):  # the client asks for more than files
            server.requests.append((self.command, path, self.headers["Range"]))
        if path.startswith("/cdn/"):
            return self.content(server.blobs[path[len("/cdn/") :]], with_body)
        if "/resolve/" not in path:
            return self.send(404, {"X-Error-Code": "RepoNotFound"})
        repository, _, rest = path[1:].partition("/resolve/")
        revision, _, file = rest.partition("/")
        if repository in server.gated:
            return self.send(403, {"X-Error-Code": "GatedRepo"})
        if repository not in {known for known, _, _ in server.files}:
            return self.send(401, {"X-Error-Code": "RepoNotFound"})
        commit = server.branches.get(revision, revision)
        if commit not in {known for _, known, _ in server.files}:
            return self.send(404, {"X-Error-Code": "RevisionNotFound"})
        if (repository, commit, file) not in server.files:
            return self.send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        content = server.files[repository, commit, file]
        etag = hashlib.sha256(content).hexdigest()
        server.blobs[etag] = content
        linked = {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": len(content), "X-Repo-Commit": commit}
        return self.send(302, {**linked, "Location": f"{server.cdn}/cdn/{etag}"})

    def content(self, content, with_body):
        wanted = self.headers["Range"]
        start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
        headers = {"Content-Length": len(content) - start, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        if with_body and self.server.cut:
            body, self.server.cut = body[: self.server.cut], None
            self.close_connection = True
        self.send(206 if wanted else 200, headers, body if with_body else b"")

    def send(self, status, headers, body=b""):
        self.send_response(status)
        for name, value in {"Content-Length": 0, **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@contextmanager
def running():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.blobs, server.requests = {}, {}, []
        server.branches, server.gated, server.cut = {"main": COMMIT}, (), None
        server.url = f"http://127.0.0.1:{server.server_port}"
        server.cdn = f"http://localhost:{server.server_port}"  # another host, as large files have one
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def use(server, monkeypatch, home):
    """Let commands that are started find the server, as a mirror, and a cache of their own."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in HUB_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HOME", str(home))
