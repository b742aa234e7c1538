"""A real HTTP server that plays one scripted reply, for what a healthy server never does."""

import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


def sse(*chunks: object, done: bool = True) -> bytes:
    """The body of a stream of these objects."""
    events = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks]
    return b"".join(events) + (b"data: [DONE]\n\n" if done else b"")


def said(text: str, finish_reason: str | None = None, **delta: object) -> dict[str, Any]:
    """A chunk of one choice."""
    choice = {"index": 0, "delta": {"content": text, **delta}, "finish_reason": finish_reason}
    return {"choices": [choice]}


@dataclass
class Script:
    """What POST answers; GET always lists no models."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "text/event-stream"})
    # After the body: say nothing until the client hangs up.
    stay_silent: bool = False
    models_status: int = 200


class ScriptedUpstream:
    """Set `script`, then ask; `requests` has what came in."""

    def __init__(self) -> None:
        self.script = Script()
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.hung_up = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def last_body(self) -> dict[str, Any]:
        return self.requests[-1][2]

    def play(self, chunks: Iterable[object] = (), **script: Any) -> None:
        """Answer with these chunks, or with `body`."""
        self.script = Script(**({"body": sse(*chunks)} | script))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                upstream.requests.append((self.path, dict(self.headers), {}))
                self.send_response(upstream.script.models_status)
                self.end_headers()

            def do_POST(self) -> None:
                script = upstream.script
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                upstream.requests.append((self.path, dict(self.headers), body))
                self.send_response(script.status)
                for name, value in script.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(script.body)
                if script.stay_silent:
                    self.connection.settimeout(20)
                    if self.rfile.read(1) == b"":
                        upstream.hung_up.set()

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler
