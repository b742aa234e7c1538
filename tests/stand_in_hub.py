"""A small hub on a real socket: Hugging Face's API, ModelScope's, Ollama's registry, plain files.

It can refuse, be slow, stall, cut connections, and send what was not asked for.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

LFS_BYTES = 1024
PIECE_BYTES = 64 << 10
TOKEN = "hf_of_a_friend"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Fault:
    """What goes wrong with replies about addresses that contain `place`.

    Args:
        kind: status: that status; cut: the connection ends after so many bytes; stall: nothing more
            comes after so many bytes; wrong: the first byte is another; whole: ranges are ignored;
            away: a redirect to `target`.
        times: how often; -1: always.
    """

    place: str
    kind: Literal["status", "cut", "stall", "wrong", "whole", "away"]
    value: int = 0
    times: int = -1
    target: str = ""


@dataclass
class Repository:
    files: dict[str, bytes]
    is_gated: bool = False


@dataclass
class Seen:
    path: str
    range: str
    authorization: str


@dataclass
class StandInHub:
    address: str = ""
    hugging_face: dict[str, Repository] = field(default_factory=dict)
    modelscope: dict[str, dict[str, bytes]] = field(default_factory=dict)
    # By "library/name:tag": the media types and contents of the layers.
    ollama: dict[str, list[tuple[str, bytes]]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    # Set when a reply has begun to stall, and to let stalled replies end.
    stalled: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def environment(self) -> dict[str, str]:
        """The settings with which downloads come from here."""
        return {
            "HF_ENDPOINT": self.address,
            "MODELSCOPE_ENDPOINT": self.address,
            "OLLAMA_REGISTRY": self.address,
            "PULL_STALL_SECONDS": "1",
            # Neither the user's token nor the user's offline mode.
            "HF_HUB_OFFLINE": "0",
            "HF_TOKEN_PATH": "/nowhere",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def asked(self, place: str) -> list[Seen]:
        return [one for one in self.seen if place in one.path]

    def fault(self, path: str, *kinds: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.place in path and fault.kind in kinds and fault.times:
                    fault.times -= 1
                    return fault
        return None


@contextmanager
def stand_in_hub() -> Iterator[StandInHub]:
    """A running hub."""
    hub = StandInHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: StandInHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        hub = self.hub
        authorization = self.headers.get("authorization", "")
        hub.seen.append(Seen(self.path, self.headers.get("range", ""), authorization))
        if fault := hub.fault(path, "status"):
            return self._refuse(fault.value)
        if fault := hub.fault(path, "away"):
            return self._redirect(fault.target)
        for pattern, answer in _ROUTES:
            if match := re.fullmatch(pattern, path):
                answer(self, *match.groups())
                return None
        content = hub.files.get(path)
        return self._refuse(404) if content is None else self._content(path, content)

    def hugging_face_api(self, name: str) -> None:
        repository = self.hub.hugging_face.get(name)
        if repository is None:
            # The hub does not say whether it is private.
            return self._refuse(401, "RepoNotFound")
        siblings: list[dict[str, Any]] = []
        for path, content in repository.files.items():
            entry: dict[str, Any] = {
                "rfilename": path, "size": len(content), "blobId": git_sha1(content)
            }  # fmt: skip
            if len(content) > LFS_BYTES:
                digest = sha256_of(content)
                entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        return self._json({"id": name, "sha": COMMIT, "siblings": siblings, "tags": []})

    def hugging_face_file(self, name: str, commit: str, path: str) -> None:
        repository = self.hub.hugging_face.get(name)
        content = repository.files.get(path) if repository and commit == COMMIT else None
        if repository is None or content is None:
            return self._refuse(404, "EntryNotFound")
        if repository.is_gated and self.headers.get("authorization") != f"Bearer {TOKEN}":
            return self._refuse(403, "GatedRepo")
        if len(content) <= LFS_BYTES:
            return self._content(path, content)
        # Large files are on other machines.
        place = f"/cdn/{sha256_of(content)}/{path}"
        self.hub.files[place] = content
        return self._redirect(self.hub.address + place)

    def modelscope_api(self, name: str) -> None:
        files = self.hub.modelscope.get(name)
        if files is None:
            return self._refuse(404)
        entries = [
            {"Path": path, "Size": len(content), "Type": "blob",
             "Sha256": sha256_of(content)}
            for path, content in files.items()
        ]  # fmt: skip
        folders = [{"Path": "folder", "Size": 0, "Type": "tree"}]
        return self._json({"Code": 200, "Data": {"Files": [*folders, *entries]}})

    def modelscope_file(self, name: str, path: str) -> None:
        content = self.hub.modelscope.get(name, {}).get(path)
        return self._refuse(404) if content is None else self._content(path, content)

    def ollama_manifest(self, name: str, tag: str) -> None:
        layers = self.hub.ollama.get(f"{name}:{tag}")
        if layers is None:
            return self._refuse(404)
        described = [
            {"mediaType": kind, "size": len(content), "digest": _digest(content)}
            for kind, content in layers
        ]
        return self._json({"schemaVersion": 2, "layers": described})

    def ollama_blob(self, name: str, digest: str) -> None:
        for key, layers in self.hub.ollama.items():
            for _, content in layers:
                if key.startswith(f"{name}:") and _digest(content) == digest:
                    return self._content(digest, content)
        return self._refuse(404)

    def _content(self, path: str, content: bytes) -> None:
        """Send a file or a range of it, as far as nothing goes wrong."""
        begin, end = 0, len(content)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        is_part = bool(wanted) and not self.hub.fault(path, "whole")
        if wanted and is_part:
            begin = int(wanted[1])
            end = min(int(wanted[2] or end - 1) + 1, end)
        self.send_response(206 if is_part else 200)
        if is_part:
            self.send_header("content-range", f"bytes {begin}-{end - 1}/{len(content)}")
        self.send_header("content-length", str(end - begin))
        self.end_headers()
        body = memoryview(content)[begin:end]
        if self.hub.fault(path, "wrong"):
            body = memoryview(bytes([body[0] ^ 1]) + bytes(body[1:]))
        breaking = self.hub.fault(path, "cut", "stall")
        self._send(body if breaking is None else body[: breaking.value])
        if breaking is not None and breaking.value < len(body):
            self.close_connection = True
            if breaking.kind == "stall":
                self.hub.stalled.set()
                self.hub.closing.wait()

    def _send(self, body: memoryview) -> None:
        try:
            for begin in range(0, len(body), PIECE_BYTES):
                self.wfile.write(body[begin : begin + PIECE_BYTES])
        except OSError:
            # The client has what it wanted, or left.
            self.close_connection = True

    def _json(self, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _redirect(self, target: str) -> None:
        self.send_response(302)
        self.send_header("location", target)
        self.send_header("content-length", "0")
        self.end_headers()

    def _refuse(self, status: int, code: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("x-error-code", code)
        self.send_header("content-length", "0")
        self.end_headers()


_ROUTES: list[tuple[str, Any]] = [
    (r"/api/models/([^/]+/[^/]+)", _Handler.hugging_face_api),
    (r"/api/v1/models/([^/]+/[^/]+)/repo/files", _Handler.modelscope_api),
    (r"/models/([^/]+/[^/]+)/resolve/master/(.+)", _Handler.modelscope_file),
    (r"/v2/([^/]+/[^/]+)/manifests/([^/]+)", _Handler.ollama_manifest),
    (r"/v2/([^/]+/[^/]+)/blobs/([^/]+)", _Handler.ollama_blob),
    (r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", _Handler.hugging_face_file),
]


@lru_cache(maxsize=64)  # asked for with each part of a file
def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@lru_cache(maxsize=64)
def git_sha1(content: bytes) -> str:
    head = b"blob %d\0" % len(content)
    return hashlib.sha1(head + content, usedforsecurity=False).hexdigest()


def _digest(content: bytes) -> str:
    return f"sha256:{sha256_of(content)}"
