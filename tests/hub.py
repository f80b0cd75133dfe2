"""A local Hugging Face Hub: the part of its API that a download of a small repository uses."""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Serves the folders in ``server.repositories`` as repositories of one commit."""

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def log_message(self, *_):
        pass

    def _answer(self, body):
        path = self.path.partition("?")[0].strip("/")
        if path.startswith("api/") and path.split("/")[1] not in ("models", "datasets"):
            self._send(404, b"{}", body, {})
            return
        if path.startswith("api/"):
            _, kind, owner, name, *rest = path.split("/")
            self._describe(f"{kind}/{owner}/{name}", rest, body)
            return
        parts = path.split("/")
        kind = "datasets" if parts[0] == "datasets" else "models"
        owner, name, _resolve, _commit, *file = parts[kind == "datasets" :]
        content = (self.server.repositories[f"{kind}/{owner}/{name}"] / "/".join(file)).read_bytes()
        self._send(200, content, body, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"'})

    def _describe(self, repository, rest, body):
        folder = self.server.repositories.get(repository)
        if folder is None:
            error = "GatedRepo" if "gated" in repository else "RepoNotFound"
            status = 403 if error == "GatedRepo" else 404
            self._send(status, b"{}", body, {"X-Error-Code": error, "X-Error-Message": error})
            return
        if rest[:1] == ["revision"] and rest[1] not in ("main", COMMIT):
            self._send(404, b"{}", body, {"X-Error-Code": "RevisionNotFound"})
            return
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        listed = [str(path.relative_to(folder)) for path in files]
        if rest[:1] == ["tree"]:
            answer = [
                {"type": "file", "path": name, "size": path.stat().st_size, "oid": COMMIT}
                for name, path in zip(listed, files, strict=True)
            ]
        else:
            answer = {"id": repository.partition("/")[2], "sha": COMMIT}
            answer |= {"siblings": [{"rfilename": name} for name in listed]}
            answer |= {"tags": [], "private": False, "downloads": 0, "likes": 0}
        self._send(200, json.dumps(answer).encode(), body, {"Content-Type": "application/json"})

    def _send(self, status, content, body, headers):
        self.send_response(status)
        for name, value in {"X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)


@contextlib.contextmanager
def serve(repositories: dict[str, Path]) -> Iterator[str]:
    """Serve folders by ``models/owner/name`` or ``datasets/owner/name``; yield the endpoint."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.repositories = repositories
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
