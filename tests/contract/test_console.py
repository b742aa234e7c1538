"""The console as it is served: headers, tags, who gets it, and that no path leads elsewhere."""

import gzip
import re
from pathlib import Path

import httpx
import pytest

from gateway.console.files import BUILT
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
MOST_ZIPPED_BYTES = 250_000


async def page(gateway: RunningGateway, **headers: str) -> httpx.Response:
    return await gateway.http.get("/", headers=BROWSER | headers)


async def assets(gateway: RunningGateway) -> list[str]:
    """The paths that the page itself names."""
    return re.findall(r'(?:src|href)="([^"]+)"', (await page(gateway)).text)


async def test_a_browser_gets_the_page_and_everything_that_it_names(
    gateway: RunningGateway,
) -> None:
    reply = await page(gateway)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    named = await assets(gateway)
    assert {Path(path).suffix for path in named} == {".js", ".css", ".svg"}
    for path in named:
        found = await gateway.http.get(path)
        assert found.status_code == 200, path
        assert found.headers["x-content-type-options"] == "nosniff"


async def test_every_built_file_is_served_as_it_is(gateway: RunningGateway) -> None:
    files = list((BUILT / "assets").iterdir())
    assert len(files) > 5
    for file in files:
        reply = await gateway.http.get(f"/console/assets/{file.name}")
        assert reply.content == file.read_bytes()
        assert reply.headers["content-type"].partition(";")[0] in ("text/javascript", "text/css")


async def test_a_page_may_load_and_call_its_own_server_only(gateway: RunningGateway) -> None:
    headers = (await page(gateway)).headers
    policy = dict(
        part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["object-src"] == policy["base-uri"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"


def test_no_built_file_names_another_server_to_load_from() -> None:
    html = (BUILT / "index.html").read_text("utf-8")
    assert "<script>" not in html
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", html)
    for style in (BUILT / "assets").glob("*.css"):
        assert not re.search(r"url\(|@import", style.read_text("utf-8"))


def test_the_whole_console_is_small() -> None:
    files = [path for path in BUILT.rglob("*") if path.is_file()]
    assert sum(len(gzip.compress(path.read_bytes())) for path in files) <= MOST_ZIPPED_BYTES


async def test_hashed_files_are_kept_for_ever_and_the_page_is_asked_for_again(
    gateway: RunningGateway,
) -> None:
    first = await page(gateway)
    assert first.headers["cache-control"] == "no-cache"
    again = await page(gateway, **{"if-none-match": first.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""
    (script,) = [path for path in await assets(gateway) if path.endswith(".js")]
    assert "immutable" in (await gateway.http.get(script)).headers["cache-control"]
    icon = await gateway.http.get("/console/favicon.svg")
    assert icon.headers["cache-control"] == "no-cache"


async def test_who_takes_gzip_gets_it_and_the_others_do_not(gateway: RunningGateway) -> None:
    (script,) = [path for path in await assets(gateway) if path.endswith(".js")]
    zipped = await gateway.http.get(script, headers={"accept-encoding": "gzip, br"})
    plain = await gateway.http.get(script, headers={"accept-encoding": "identity"})
    assert zipped.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert zipped.content == plain.content
    assert int(zipped.headers["content-length"]) < int(plain.headers["content-length"]) / 2
    assert "accept-encoding" in zipped.headers["vary"].lower()


async def test_head_has_the_headers_and_no_body(gateway: RunningGateway) -> None:
    reply = await gateway.http.head("/", headers=BROWSER)
    assert reply.status_code == 200
    assert reply.content == b""
    assert int(reply.headers["content-length"]) > 0


@pytest.mark.parametrize("headers", [{}, {"accept": "application/json"}])
async def test_who_asks_for_no_page_gets_the_apis_answer(
    gateway: RunningGateway, headers: dict[str, str]
) -> None:
    reply = await gateway.http.get("/", headers=headers)
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] == "not_found"
    assert (await gateway.http.post("/", headers=BROWSER)).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/console/../settings.py",
        "/console/..%2fsettings.py",
        "/console/%2e%2e/files.py",
        "/console/assets/../../files.py",
        "/console//etc/passwd",
        "/console/assets/",
        "/console/",
        "/console/index.html",
        "/console/assets/nope.js",
        "/console/..\\files.py",
        "/built/index.html",
    ],
)
async def test_a_path_leads_to_no_other_file(gateway: RunningGateway, path: str) -> None:
    async with gateway.raw() as (reader, writer):
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        assert (await reader.read()).startswith(b"HTTP/1.1 404")


async def test_the_page_needs_no_key_and_what_it_asks_does(worker: ScriptedWorker) -> None:
    async with running_gateway([worker], api_keys="k") as gateway:
        assert (await page(gateway)).status_code == 200
        for path in await assets(gateway):
            assert (await gateway.http.get(path)).status_code == 200
        for path in ("/v1/models", "/health/activity", "/console/nope.js", "/openapi.json"):
            assert (await gateway.http.get(path, headers=BROWSER)).status_code == 401
        assert (await gateway.http.post("/", headers=BROWSER)).status_code == 401


async def test_a_foreign_host_gets_no_page(gateway: RunningGateway) -> None:
    assert (await page(gateway, host="evil.example")).status_code == 403


async def test_the_console_can_be_switched_off(worker: ScriptedWorker) -> None:
    async with running_gateway([worker], console=False) as gateway:
        assert (await page(gateway)).status_code == 404
        assert (await gateway.http.get("/console/favicon.svg")).status_code == 404


async def test_the_usual_path_of_an_api_page_leads_to_the_consoles(
    gateway: RunningGateway,
) -> None:
    reply = await gateway.http.get("/docs")
    assert reply.status_code == 307
    assert reply.headers["location"] == "/#/reference"
