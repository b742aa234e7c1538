"""A models folder full of what is no model: all starts, the others serve, reasons are told."""

import os
import sys
from pathlib import Path

import httpx
import pytest

from benchmarks.make_minilm_gguf import write
from embed_worker.discovery import built_in_folder
from tests import nasty_entries
from tests.made_models import gguf
from tests.nasty_entries import posix_only
from tests.running_stack import GUIDE, MINILM, ROOT, RunningStack

GUIDE_GGUF = ROOT / "models" / "guide" / f"{GUIDE}.gguf"
PLAIN_RIGHTS = (sys.executable, str(ROOT / "tests" / "plain_rights.py"))
ODD = "not-_xff-utf8"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    (folder / "embedding").mkdir(parents=True)
    return folder


def said(stack: RunningStack, model: str) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    return stack.http.post("/v1/chat/completions", json=body)


def embedded(stack: RunningStack, model: str) -> httpx.Response:
    return stack.http.post("/v1/embeddings", json={"model": model, "input": "a"})


@posix_only
def test_nothing_in_the_models_folder_stops_a_worker_or_harms_its_neighbours(
    models: Path, tmp_path: Path
) -> None:
    expected = nasty_entries.write(models, GUIDE_GGUF.read_bytes())
    built_in = built_in_folder()
    assert built_in is not None
    write(built_in, tmp_path / "minilm.gguf")
    nasty_entries.write(models / "embedding", (tmp_path / "minilm.gguf").read_bytes())
    (models / "café-model.gguf").write_bytes(GUIDE_GGUF.read_bytes())
    settings = {"MODELS_DIR": str(models)}
    with RunningStack(tmp_path / "log", through=PLAIN_RIGHTS, **settings) as stack:
        workers = [stack.one(module) for module in ("chat_worker", "embed_worker")]
        listed = stack.http.get("/v1/models").json()["data"]
        chats = {model["id"]: model for model in listed if model["capability"] == "chat"}
        embedders = {model["id"]: model for model in listed if model["capability"] == "embed"}
        for model, reason in (expected | {"locked": "may not be read"}).items():
            assert reason in chats[model].get("failure", ""), model
            assert model in embedders
        for model in (GUIDE, ODD, "cafe\N{COMBINING ACUTE ACCENT}-model"):
            assert said(stack, model).status_code == httpx.codes.OK, model
        for model in (MINILM, ODD):
            assert embedded(stack, model).status_code == httpx.codes.OK, model
        for model in ("huge", "pipe", "locked"):
            refused = said(stack, model)
            assert refused.status_code == httpx.codes.SERVICE_UNAVAILABLE, refused.text
        os.mkfifo(models / "embedding" / "later.gguf")
        reply = stack.http.post("/v1/reload-embeddings")
        assert "later" in reply.json()["models"]
        assert [stack.one(module) for module in ("chat_worker", "embed_worker")] == workers


def test_a_file_that_was_deleted_since_it_was_listed_is_named(models: Path, tmp_path: Path) -> None:
    (models / "gone.gguf").write_bytes(gguf())
    with RunningStack(tmp_path / "log", MODELS_DIR=str(models)) as stack:
        assert "failure" not in stack.models()["gone"]
        (models / "gone.gguf").unlink()
        refused = said(stack, "gone")
        assert refused.status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert "gone.gguf is missing" in refused.json()["error"]["message"]
