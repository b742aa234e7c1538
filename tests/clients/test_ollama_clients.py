"""Ollama's clients against the real stack, at the port where they look for Ollama: its Python and
npm packages, and LangChain."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import ollama
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_ollama import ChatOllama, OllamaEmbeddings
from pydantic import BaseModel, Field

from benchmarks.make_qwen_shape import TINY, write_gguf
from tests.running_stack import GUIDE, MINILM, ROOT, RunningStack, free_port
from tests.stand_in_hub import Repository, stand_in_hub

HERE = Path(__file__).parent
NPM, NODE = shutil.which("npm"), shutil.which("node")
INSTALL_WITHIN_S, RUN_WITHIN_S = 120, 60
FILLER = "filler"
MARKS = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
QUESTION = {"role": "user", "content": "What is Y26HKX?"}


@dataclass
class Ollama:
    host: str
    client: ollama.Client
    models: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ollama]:
    folder = tmp_path_factory.mktemp("ollama")
    models, port = folder / "models", free_port()
    models.mkdir()
    write_gguf(models / f"{FILLER}.gguf", replace(TINY, more_special=MARKS), seed=1)
    with stand_in_hub() as hub:
        guide = (ROOT / "models" / "guide" / f"{GUIDE}.gguf").read_bytes()
        hub.hugging_face["org/own-GGUF"] = Repository({"own-Q8_0.gguf": guide})
        environment = hub.environment | {
            "MODELS_DIR": str(models),
            "MODEL_PATH": str(ROOT / "models" / "guide"),
            "OLLAMA_COMPAT_PORT": str(port),
            "CUSTOM_MODELS_FILE": str(folder / "custom.json"),
        }
        host = f"http://127.0.0.1:{port}"
        with RunningStack(folder / "log", **environment), ollama.Client(host=host) as client:
            yield Ollama(host, client, models)


def weather(city: str) -> str:
    """Tell the weather.

    Args:
        city: where
    """
    return f"sun over {city}"


def test_it_lists_and_shows(served: Ollama) -> None:
    found = {model.model: model for model in served.client.list().models}
    assert {f"{GUIDE}:latest", f"{MINILM}:latest", f"{FILLER}:latest"} <= set(found)
    details = found[f"{GUIDE}:latest"].details
    assert details is not None
    assert (details.family, details.parameter_size) == ("qwen2", "4.20M")
    assert "insert" in (served.client.show(FILLER).capabilities or [])
    assert served.client.show(MINILM).capabilities == ["embedding"]


def test_it_chats_streams_and_says_what_is_loaded(served: Ollama) -> None:
    cold = {"temperature": 0}
    plain = served.client.chat(GUIDE, [QUESTION], options=cold)
    parts = list(served.client.chat(f"{GUIDE}:latest", [QUESTION], stream=True, options=cold))
    assert "Y26HKX" in (plain.message.content or "")
    assert "".join(part.message.content or "" for part in parts) == plain.message.content
    assert parts[-1].eval_count == plain.eval_count
    assert plain.total_duration
    assert plain.eval_duration
    assert plain.total_duration >= plain.eval_duration > 0
    assert f"{GUIDE}:latest" in [model.model for model in served.client.ps().models]


def test_it_generates_and_goes_on(served: Ollama) -> None:
    first = served.client.generate(GUIDE, "What is Y26HKX?", options={"temperature": 0})
    assert "Y26HKX" in (first.response or "")
    again = served.client.generate(GUIDE, "And?", context=first.context, options={"num_predict": 4})
    assert again.prompt_eval_count
    assert first.prompt_eval_count
    assert again.prompt_eval_count > first.prompt_eval_count + 20, "the answer is in the prompt"


def test_it_fills_in_the_middle_where_the_model_can(served: Ollama) -> None:
    made = served.client.generate(FILLER, "def f(", suffix="return x", options={"num_predict": 4})
    assert (made.eval_count, made.done_reason) == (4, "length")
    with pytest.raises(ollama.ResponseError, match="fill in the middle") as refused:
        served.client.generate(GUIDE, "def f(", suffix="return x")
    assert refused.value.status_code == 400


def test_it_offers_tools_over_two_turns(served: Ollama) -> None:
    call = {"function": {"name": "weather", "arguments": {"city": "Bern"}}}
    messages: list[dict[str, Any]] = [
        QUESTION,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": weather("Bern"), "tool_name": "weather"},
    ]
    options = {"num_predict": 8}
    without = served.client.chat(GUIDE, [QUESTION], options=options)
    shown = served.client.chat(GUIDE, [QUESTION], tools=[weather], options=options)
    answered = served.client.chat(GUIDE, messages, tools=[weather], options=options)
    counts = [reply.prompt_eval_count or 0 for reply in (without, shown, answered)]
    assert counts[0] < counts[1] < counts[2], "the model sees the tool, and then its result"


def test_it_follows_a_schema(served: Ollama) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}
    made = served.client.chat(GUIDE, [QUESTION], format=schema, options={"num_predict": 40})
    assert json.loads(made.message.content or "")["n"] in (1, 2)


def test_it_embeds(served: Ollama) -> None:
    cat, kitten = served.client.embed(MINILM, ["a cat", "a kitten"]).embeddings
    assert sum(a * b for a, b in zip(cat, kitten, strict=True)) > 0.5
    assert len(served.client.embeddings(MINILM, "a cat").embedding) == 384


def test_it_pulls_what_is_served_at_once_and_deletes_it(served: Ollama) -> None:
    name = "hf.co/org/own-GGUF:Q8_0"
    seen = list(served.client.pull(name, stream=True))
    assert [seen[0].status, seen[-1].status] == ["pulling manifest", "success"]
    bar = [part for part in seen if part.digest]
    assert bar
    assert bar[-1].total
    assert (bar[-1].completed or 0) <= bar[-1].total
    assert served.client.pull(name).status == "success"
    assert served.client.generate("own-Q8_0", "hi", options={"num_predict": 2}).eval_count
    served.client.delete("own-Q8_0")
    assert not (served.models / "own-Q8_0.gguf").exists()
    with pytest.raises(ollama.ResponseError) as unknown:
        served.client.pull("hf.co/org/unknown")
    assert unknown.value.status_code == 404


def test_it_makes_copies_and_deletes_names(served: Ollama) -> None:
    served.client.create("short", from_=GUIDE, parameters={"num_predict": 3})
    assert served.client.generate("short", "What is Y26HKX?").eval_count == 3
    served.client.copy("short", "other")
    served.client.delete("short")
    assert served.client.chat("other", [QUESTION]).eval_count == 3
    served.client.delete("other")
    with pytest.raises(ollama.ResponseError) as unknown:
        served.client.show("other")
    assert unknown.value.status_code == 404


def test_it_unloads_and_loads(served: Ollama) -> None:
    served.client.chat(GUIDE, [QUESTION], keep_alive=-1, options={"num_predict": 1})
    assert served.client.generate(GUIDE, "", keep_alive=0).done_reason == "unload"
    assert f"{GUIDE}:latest" not in [model.model for model in served.client.ps().models]
    assert served.client.generate(GUIDE, "").done_reason == "load"
    assert f"{GUIDE}:latest" in [model.model for model in served.client.ps().models]


def test_a_model_of_the_wrong_kind_is_a_400(served: Ollama) -> None:
    with pytest.raises(ollama.ResponseError) as chats:
        served.client.chat(MINILM, [QUESTION])
    with pytest.raises(ollama.ResponseError) as embeds:
        served.client.embed(GUIDE, "a")
    assert (chats.value.status_code, embeds.value.status_code) == (400, 400)


T = TypeVar("T", ChatOllama, OllamaEmbeddings)


@contextmanager
def closing(client: T) -> Iterator[T]:
    yield client
    inner: Any = client._client  # noqa: SLF001 - LangChain has no public way
    inner.close()


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=12)
    is_big: bool


def test_langchain_chats_streams_structures_and_goes_on_after_tools(served: Ollama) -> None:
    made = ChatOllama(model=GUIDE, base_url=served.host, temperature=0, validate_model_on_init=True)
    with closing(made) as model:
        plain = model.invoke("What is Y26HKX?")
        assert "Y26HKX" in str(plain.content)
        assert plain.usage_metadata is not None
        assert plain.usage_metadata["output_tokens"] > 0
        streamed = "".join(str(chunk.content) for chunk in model.stream("What is Y26HKX?"))
        assert streamed == plain.content
        found = model.with_structured_output(City, method="json_schema").invoke("Name a city.")
        assert isinstance(found, City)
        call = {"name": "City", "args": {"name": "Bern", "is_big": False}, "id": "a"}
        history = [
            HumanMessage("Name a city."),
            AIMessage("", tool_calls=[call]),
            ToolMessage("noted", tool_call_id="a"),
        ]
        assert model.bind_tools([City]).invoke(history).content


def test_langchain_embeds(served: Ollama) -> None:
    with closing(OllamaEmbeddings(model=MINILM, base_url=served.host)) as embeddings:
        assert [len(row) for row in embeddings.embed_documents(["a", "b"])] == [384, 384]


def test_the_npm_package_chats_streams_embeds_and_lists(served: Ollama, tmp_path: Path) -> None:
    if NPM is None or NODE is None:
        pytest.skip("there is no Node.js here")
    for name in ("package.json", "package-lock.json", "ollama_client.mjs"):
        shutil.copy(HERE / name, tmp_path)
    subprocess.run(
        [NPM, "ci", "--silent", "--no-audit", "--no-fund"],
        cwd=tmp_path,
        check=True,
        timeout=INSTALL_WITHIN_S,
    )
    done = subprocess.run(
        [NODE, "ollama_client.mjs", served.host, GUIDE, MINILM],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=RUN_WITHIN_S,
    )
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    assert "Y26HKX" in got["plain"]
    assert got["streamed"] == got["plain"]
    assert got["dimensions"] == [384, 384]
    assert {f"{GUIDE}:latest", f"{MINILM}:latest"} <= set(got["models"])
    assert got["refused"] == {"name": "ResponseError", "status": 404}
