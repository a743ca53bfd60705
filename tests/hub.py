"""A model hub on this machine: it speaks what huggingface_hub asks for, and sends large files from another port."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

REPO, COMMIT = "lab/tiny-sd", "0123456789abcdef0123456789abcdef01234567"
_LARGE = 5000
"""From so many bytes on a file is no part of the repository itself, as with git's LFS."""
_CHUNK = 2**16


@dataclass
class Hub:
    """What it has, what it is to do wrong, and what it was asked."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    url: str = ""
    elsewhere: str = ""
    gated: bool = False
    token: str | None = None
    """Whoever has not this one finds nothing."""
    status: int | None = None
    """Of all answers."""
    spoilt: str | None = None
    """A file of which other bytes come than the hub says."""
    stall: str | None = None
    """A file of which the half comes, and then nothing until `go_on`."""
    go_on: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Path and headers of each request."""

    def add(self, folder: Path, repo: str = REPO) -> None:
        """Have a folder as a repository."""
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        self.repos[repo] = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    def ranges(self, path: str) -> list[str | None]:
        """From where on a file was sent, each time it was."""
        digest = hashlib.sha256(self.repos[REPO][path]).hexdigest()
        ends = f"/{path}", f"/{digest}"
        asked = [(where, headers.get("range")) for where, headers in self.asked if where.endswith(ends)]
        return [sent for where, sent in asked if where.endswith(ends[1])] or [sent for _, sent in asked]


@contextmanager
def serving_hub() -> Iterator[Hub]:
    """A hub without a repository."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    hub.url, hub.elsewhere = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True) for server in servers]
    for server, thread in zip(servers, threads, strict=True):
        server.daemon_threads = True
        thread.start()
    try:
        yield hub
    finally:
        hub.go_on.set()
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.asked.append((path, {name.lower(): value for name, value in self.headers.items()}))
        parts = path.strip("/").split("/")
        if hub.status is not None:
            self._send(hub.status, b"no")
        elif parts[0] == "large":
            self._large(parts[1])
        elif hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
        elif parts[:2] == ["api", "models"] and parts[4] == "tree":
            self._tree("/".join(parts[2:4]), parts[5])
        elif parts[2] == "resolve":
            self._file("/".join(parts[:2]), "/".join(parts[4:]))
        else:
            self._send(404, b"")

    def log_message(self, *_: object) -> None:
        pass

    def _tree(self, repo: str, revision: str) -> None:
        if repo not in self.hub.repos:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif revision != COMMIT:
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        else:
            body = json.dumps([_entry(path, data) for path, data in self.hub.repos[repo].items()])
            self._send(200, body.encode(), {"Content-Type": "application/json"})

    def _file(self, repo: str, path: str) -> None:
        data = self.hub.repos.get(repo, {}).get(path)
        if self.hub.gated:
            self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        elif data is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        elif len(data) < _LARGE:
            self._bytes(path, data)
        else:
            where = f"{self.hub.elsewhere}/large/{hashlib.sha256(data).hexdigest()}"
            self._send(302, b"", {"Location": where, "X-Repo-Commit": COMMIT})

    def _large(self, digest: str) -> None:
        for files in self.hub.repos.values():
            for path, data in files.items():
                if hashlib.sha256(data).hexdigest() == digest:
                    self._bytes(path, data)
                    return
        self._send(404, b"")

    def _bytes(self, path: str, data: bytes) -> None:
        first = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        sent = bytes([data[0] ^ 1]) + data[1:] if path == self.hub.spoilt else data
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(data) - first))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        end = len(data) // 2 if path == self.hub.stall else len(data)
        try:
            for start in range(first, end, _CHUNK):
                self.wfile.write(sent[start : min(start + _CHUNK, end)])
            if end < len(data):
                self.wfile.flush()
                self.hub.go_on.wait()
                self.wfile.write(sent[max(first, end) :])
        except OSError:  # who asked is gone
            self.close_connection = True

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _entry(path: str, data: bytes) -> dict[str, object]:
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    entry: dict[str, object] = {"type": "file", "oid": blob, "size": len(data), "path": path}
    if len(data) >= _LARGE:
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return entry
