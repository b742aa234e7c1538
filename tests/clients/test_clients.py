"""Other people's clients against the real stack: npm's OpenAI SDK and LangChain."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field, SecretStr

from tests.running_stack import GUIDE, MINILM, RunningStack

HERE = Path(__file__).parent
NPM, NODE = shutil.which("npm"), shutil.which("node")
INSTALL_WITHIN_S, RUN_WITHIN_S = 120, 60


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with RunningStack(tmp_path_factory.mktemp("clients") / "log") as running:
        yield running


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The JavaScript client with its packages, installed as its lock file says."""
    if NPM is None or NODE is None:
        pytest.skip("there is no Node.js here")
    folder = tmp_path_factory.mktemp("npm")
    for name in ("package.json", "package-lock.json", "openai_client.mjs"):
        shutil.copy(HERE / name, folder)
    subprocess.run(
        [NPM, "ci", "--silent", "--no-audit", "--no-fund"],
        cwd=folder,
        check=True,
        timeout=INSTALL_WITHIN_S,
    )
    return folder / "openai_client.mjs"


def test_the_npm_sdk_chats_streams_runs_tools_responds_and_embeds(
    stack: RunningStack, script: Path
) -> None:
    assert NODE is not None
    done = subprocess.run(
        [NODE, str(script), f"{stack.base_url}/v1"],
        capture_output=True,
        text=True,
        timeout=RUN_WITHIN_S,
    )
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    assert "Y26HKX" in got["plain"]
    assert got["streamed"] == got["plain"]
    for call in got["calls"]:
        assert call["function"]["name"] == "weather"
        assert set(json.loads(call["function"]["arguments"])) == {"city"}
    assert got["nRun"] == 1
    assert "Y26HKX" in got["responded"].pop("text")
    assert got["responded"] == {"first": "response.created", "last": "response.completed"}
    assert got["dimensions"] == [384, 384]
    assert {GUIDE, MINILM} <= set(got["models"])
    assert got["refused"] == {"name": "BadRequestError", "status": 400, "param": "temperature"}


def langchain(stack: RunningStack, **fields: Any) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=f"{stack.base_url}/v1",
        api_key=SecretStr("none"),
        model=GUIDE,
        temperature=0,
        max_retries=0,
        **fields,
    )


def test_langchain_chats_and_streams(stack: RunningStack) -> None:
    model = langchain(stack)
    plain = model.invoke("What is Y26HKX?")
    streamed = "".join(str(chunk.content) for chunk in model.stream("What is Y26HKX?"))
    assert "Y26HKX" in str(plain.content)
    assert streamed == plain.content
    assert plain.usage_metadata is not None
    assert plain.usage_metadata["output_tokens"] > 0


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=12)
    is_big: bool


@pytest.mark.parametrize("responses", [False, True])
@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
def test_langchain_gets_structured_output(
    stack: RunningStack, method: Any, responses: bool
) -> None:
    model = langchain(stack, max_completion_tokens=200, use_responses_api=responses)
    found = model.with_structured_output(City, method=method).invoke("Name a city.")
    assert isinstance(found, City)


@pytest.mark.parametrize("responses", [False, True])
def test_langchain_binds_tools_and_goes_on_with_their_results(
    stack: RunningStack, responses: bool
) -> None:
    model = langchain(stack, max_completion_tokens=200, use_responses_api=responses)
    question = HumanMessage("Name a city.")
    bound = model.bind_tools([City], tool_choice="any", parallel_tool_calls=False)
    reply = bound.invoke([question])
    assert [call["name"] for call in reply.tool_calls] == ["City"]
    result = ToolMessage("noted", tool_call_id=reply.tool_calls[0]["id"])
    assert model.bind_tools([City]).invoke([question, reply, result]).content


def test_langchain_embeds(stack: RunningStack) -> None:
    embeddings = OpenAIEmbeddings(
        openai_api_base=f"{stack.base_url}/v1",
        openai_api_key=SecretStr("none"),
        model=MINILM,
        check_embedding_ctx_length=False,
    )
    first, second = embeddings.embed_documents(["a cat", "a kitten"])
    assert len(first) == len(second) == 384
    assert sum(a * b for a, b in zip(first, second, strict=True)) > 0.5
