"""A local stand-in for the Hugging Face Hub: repositories of models in memory, and files by commit."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import huggingface_hub.constants
import pytest

_URL = re.compile(r"/(?:api/models/)?([\w.-]+/[\w.-]+)/(revision|resolve|preupload|commit)/([^/?]+)/?([^?]*)")


class Hub:
    """Repositories by name, each a dict of files; `requests` are the paths that were asked for."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.requests: list[str] = []
        self.url = ""

    def commit(self, name: str) -> str:
        """A digest of the files of a repository."""
        text = repr(sorted(self.repositories[name].items()))
        return hashlib.sha1(text.encode()).hexdigest()

    def downloads(self) -> list[str]:
        """The names of the files that were downloaded."""
        return [
            path.rsplit("/", 1)[1]
            for path in self.requests
            if path.startswith("GET ") and "/resolve/" in path
        ]


def make_handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    """The class that answers requests for a hub."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            hub.requests.append(f"{self.command} {self.path}")

        def answer(self, value: Any, status: int = 200, **headers: str) -> None:
            body = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for key, text in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(key.replace("_", "-"), text)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self) -> None:
            match = _URL.match(self.path)
            name = match[1] if match else self.path.split("?")[0].removeprefix("/api/models/")
            if name not in hub.repositories:
                self.answer({"error": "no"}, 404, X_Error_Code="RepoNotFound")
                return
            files, commit = hub.repositories[name], hub.commit(name)
            if match and match[2] == "resolve":
                data = files[match[4]]
                etag = hashlib.sha256(data).hexdigest()
                self.answer(data, ETag=f'"{etag}"', X_Repo_Commit=commit)
                return
            if match and match[3] not in ("main", commit):
                self.answer({"error": "no"}, 404, X_Error_Code="RevisionNotFound")
                return
            siblings = [{"rfilename": key, "size": len(data)} for key, data in files.items()]
            self.answer(
                {"id": name, "sha": commit, "private": hub.private.get(name, False), "siblings": siblings}
            )

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            match = _URL.match(self.path)
            if self.path == "/api/repos/create":
                asked = json.loads(body)
                name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
                hub.repositories[name], hub.private[name] = (
                    {},
                    asked.get("private") or asked.get("visibility") == "private",
                )
                self.answer({"url": f"{hub.url}/{name}", "id": name})
            elif match and match[2] == "preupload":
                files = json.loads(body)["files"]
                modes = [
                    {"path": item["path"], "uploadMode": "regular", "shouldIgnore": False} for item in files
                ]
                self.answer({"files": modes})
            elif match and match[2] == "commit":
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        content = base64.b64decode(line["value"]["content"])
                        hub.repositories[match[1]][line["value"]["path"]] = content
                oid = hub.commit(match[1])
                self.answer({"commitUrl": f"{hub.url}/{match[1]}/commit/{oid}", "commitOid": oid})
            else:  # the metadata of the card
                self.answer({"errors": [], "warnings": []})

    return Handler


@contextmanager
def serve_hub(cache: Any) -> Iterator[Hub]:
    """Let huggingface_hub use a hub of this process, with a cache and a token of its own."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    constants = huggingface_hub.constants
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.url)
        url = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setenv("HF_TOKEN", "hf_test")
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("FLOWGMM_CACHE_DIR", str(cache / "flowgmm"))
        patch.delenv("HF_HUB_OFFLINE", raising=False)
        try:
            yield hub
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
