"""What the gateway leaves out of FastAPI, and what it leaves to those who add to the app."""

import traceback
from pathlib import Path
from typing import Any

import fastapi
import pytest
import starlette
from fastapi.testclient import TestClient
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.app import create_app
from gateway.routes import models
from gateway.services import services_of
from gateway.settings import GatewaySettings
from tests.contract.running_gateway import running_gateway
from tests.contract.scripted_worker import ScriptedWorker


async def test_a_program_s_request_passes_no_code_of_theirs_but_errors_and_the_router(
    worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[tuple[str, str]] = []

    def looking(request: Any) -> Any:
        for frame in traceback.extract_stack():
            for package in (fastapi, starlette):
                folder = Path(package.__path__[0])
                if (file := Path(frame.filename)).is_relative_to(folder):
                    passed.append((file.relative_to(folder.parent).as_posix(), frame.name))
        return services_of(request)

    monkeypatch.setattr(models, "services_of", looking)
    async with running_gateway([worker]) as gateway:
        assert (await gateway.http.get("/v1/models")).status_code == 200
    assert passed == [
        ("starlette/middleware/exceptions.py", "__call__"),
        ("starlette/_exception_handler.py", "wrapped_app"),
        ("starlette/routing.py", "__call__"),
        ("fastapi/routing.py", "app"),
        ("starlette/routing.py", "handle"),
    ]


async def test_a_method_that_a_route_lacks_is_refused_with_those_it_has(
    worker: ScriptedWorker,
) -> None:
    async with running_gateway([worker]) as gateway:
        refused = await gateway.http.put("/v1/models")
        looked = await gateway.http.head("/v1/models")
    assert refused.status_code == 405
    assert set(refused.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert refused.json()["error"]["code"] == "method_not_allowed"
    assert looked.status_code == 200


class Stamp:
    def __init__(self, app: ASGIApp, text: bytes) -> None:
        self._app = app
        self._text = text

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def stamped(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-stamp", self._text)]
            await send(message)

        await self._app(scope, receive, stamped)


def test_a_layer_and_a_route_that_are_added_to_the_app_are_served() -> None:
    app = create_app(GatewaySettings(_env_file=None))
    app.add_middleware(Stamp, text=b"ours")

    async def echo(request: Request) -> Response:
        return PlainTextResponse(request.query_params["text"])

    app.add_route("/echo", echo)
    reply = TestClient(app).get("/echo", params={"text": "hello"})
    assert (reply.text, reply.headers["x-stamp"]) == ("hello", "ours")
