"""The folder of embedding models while it changes under a running stack."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.make_minilm_gguf import write
from embed_worker.discovery import built_in_folder
from tests.running_stack import MINILM, RunningStack, wait_until

ENCODER = "embed_worker.encoder_process"


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built_in = built_in_folder()
    assert built_in is not None
    path = tmp_path_factory.mktemp("made") / "model.gguf"
    write(built_in, path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "models" / "embedding"
    made.mkdir(parents=True)
    return made


def embed(stack: RunningStack, model: str) -> httpx.Response:
    return stack.http.post("/v1/embeddings", json={"model": model, "input": "a"})


def reload(stack: RunningStack) -> list[str]:
    reply = stack.http.post("/v1/reload-embeddings").json()
    found: list[str] = reply["models"]
    return found


def test_models_that_come_go_and_break_are_noticed_on_request(
    folder: Path, gguf: Path, tmp_path: Path
) -> None:
    with RunningStack(tmp_path / "log", MODELS_DIR=str(folder.parent)) as stack:
        assert embed(stack, "added").status_code == httpx.codes.NOT_FOUND
        shutil.copy(gguf, folder / "added.gguf")
        (folder / "broken.gguf").write_bytes(b"GGUF no more")
        assert set(reload(stack)) == {"added", "broken", MINILM}
        assert embed(stack, "added").status_code == httpx.codes.OK
        assert embed(stack, MINILM).status_code == httpx.codes.OK
        refused = embed(stack, "broken")
        assert refused.status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert "cannot be loaded" in refused.json()["error"]["message"]
        (folder / "added.gguf").unlink()
        assert "added" not in reload(stack)
        assert embed(stack, "added").status_code == httpx.codes.NOT_FOUND


def test_a_new_model_is_noticed_when_the_last_look_is_old(
    folder: Path, gguf: Path, tmp_path: Path
) -> None:
    settings = {"MODELS_DIR": str(folder.parent), "MODEL_SCAN_TTL_SECONDS": "1"}
    with RunningStack(tmp_path / "log", **settings) as stack:

        def served() -> Iterator[bool]:
            while True:
                yield embed(stack, "added").status_code == httpx.codes.OK

        assert embed(stack, "added").status_code == httpx.codes.NOT_FOUND
        shutil.copy(gguf, folder / "added.gguf")
        wait_until(served(), 30, "the new model to be served")


def test_no_more_models_are_loaded_than_may_be_and_unknown_names_may_mean_the_default(
    folder: Path, gguf: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        shutil.copy(gguf, folder / f"{name}.gguf")
    settings = {
        "MODELS_DIR": str(folder.parent),
        "MAX_EMBEDDING_MODELS": "1",
        "EMBEDDING_DEFAULT_MODEL": "two",
        "EMBEDDING_FALLBACK_TO_DEFAULT": "1",
        "PRELOAD_MODELS": "default-embedding",
    }
    with RunningStack(tmp_path / "log", **settings) as stack:
        assert stack.models()["two"]["is_default"] is True
        for name, served in (("two", "two"), ("one", "one"), ("unknown", "two")):
            reply = embed(stack, name)
            assert reply.status_code == httpx.codes.OK, reply.text
            assert reply.json()["model"] == served
            assert len(stack.find(ENCODER)) == 1
