"""The console's own tests: of what needs no browser, and of the page in a real Chromium, before a
gateway with a scripted worker and before the whole stack.

They need node, the console's packages and a browser; where those are not there, they are skipped.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bootstrap.console import SOURCES, ready_npm
from bootstrap.settings import Settings
from common.error_texts import ErrorText
from common.errors import Overloaded, WorkerLost
from gateway.keys.administration import add_key
from gateway.keys.record import Limits, Rights
from protos.y26hkx.v1 import chat_pb2
from tests.contract.running_gateway import running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import delta, finished, started
from tests.running_stack import GUIDE, ROOT, RunningStack
from tests.stand_in_hub import Repository, stand_in_hub

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
KEY = "sk-canary-7f3a"
# What `console/tests/browser/browser.ts` asks for.
WITHIN_S = 400
pytestmark = pytest.mark.timeout(WITHIN_S + 100)


@pytest.fixture(scope="module")
def npm() -> str:
    found = ready_npm(Settings.read().variables)
    if found is None:
        pytest.skip("node, npm or the console's packages are not there")
    return found


@pytest.fixture(scope="module")
def browser() -> str:
    named = Settings.read().variables.get("CHROMIUM")
    found = named or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium is installed, and CHROMIUM names none")
    return found


async def vitest(npm: str, *arguments: str, **variables: str) -> None:
    """Run tests of the console; their output is the failure's."""
    running = await asyncio.create_subprocess_exec(
        *(npm, "--prefix", str(SOURCES), "run", *arguments),
        env=Settings.read().variables | {"NO_COLOR": "1"} | variables,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(WITHIN_S):
        said, _ = await running.communicate()
    assert running.returncode == 0, said.decode("utf-8", "replace")[-8000:]


async def test_what_needs_no_browser_is_right(npm: str) -> None:
    await vitest(npm, "test")


async def test_the_page_works_with_a_scripted_worker(
    npm: str, browser: str, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.jsonl"
    add_key(keys, Rights(alias="bob", models=("chat-small",), chat=Limits(tokens_per_day=1000)))
    async with (
        ScriptedWorker(generate=as_told) as worker,
        running_gateway([worker]) as plain,
        running_gateway([worker], api_keys=KEY, api_keys_file=keys) as locked,
    ):
        await vitest(
            *(npm, "test:browser", "scripted", "access"),
            CHROMIUM=browser,
            CONSOLE_URL=plain.base_url.replace("127.0.0.1", "localhost"),
            CONSOLE_LOCKED_URL=locked.base_url,
        )


async def test_the_page_works_with_real_models(npm: str, browser: str, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    content = (ROOT / "models" / "guide" / f"{GUIDE}.gguf").read_bytes()
    with stand_in_hub() as hub:
        files = {f"own-{variant}.gguf": content for variant in ("Q8_0", "Q4_K_M")}
        hub.hugging_face["org/own-GGUF"] = Repository(files)
        variables = hub.environment | {"MODELS_DIR": str(tmp_path / "models")}
        with RunningStack(tmp_path / "log", **variables) as stack:
            await vitest(npm, "test:browser", "real", CHROMIUM=browser, CONSOLE_URL=stack.base_url)


async def as_told(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
    """Answer as the last message says, or with that message itself."""
    messages = request.conversation.messages
    last = messages[-1]
    if last.content == "fail":
        raise Overloaded(
            ErrorText("requests_queue_full", n_requests=64),
            retry_after_s=1,
            suggestions=(ErrorText("wait_for_worker"),),
        )
    if last.content == "trimmed and reduced":
        yield started(trimmed_tokens=12, reductions=["KV cache in q8_0"], ignored=["top_k"])
    else:
        yield started(cached_tokens=1)
    if last.role == "tool":
        yield delta(f"It is {last.content}.")
    elif last.content == "think and call":
        yield delta(reasoning="I should look.")
        call = chat_pb2.ToolCallDelta(id="c1", name="weather", arguments='{"city": "Taipei"}')
        yield delta(tool_calls=[call])
    elif last.content == "endless":
        for word in ("one ", "two ", "three "):
            yield delta(word)
        await asyncio.Event().wait()
    elif last.content == "break":
        yield delta("so far")
        raise WorkerLost(ErrorText("answer_broken_off"))
    elif last.content == "options":
        temperature = round(request.sampling.temperature, 3)
        yield delta(f"system {messages[0].content}, temperature {temperature}")
    else:
        for character in last.content:
            yield delta(character)
    yield finished(len(last.content), reason="REASON_STOP")
