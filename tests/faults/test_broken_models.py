"""Damaged, lying and missing model files: a clear error, and the worker lives."""

import shutil
from pathlib import Path

import httpx

from tests.running_stack import GUIDE, ROOT, RunningStack

GUIDE_GGUF = ROOT / "models" / "guide" / f"{GUIDE}.gguf"
GUIDE_FOLDER = ROOT / "models" / "guide" / GUIDE


def ask(stack: RunningStack, model: str) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    return stack.http.post("/v1/chat/completions", json=body)


def test_damaged_files_are_listed_with_their_reason_and_harm_nothing(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    whole = GUIDE_GGUF.read_bytes()
    (models / "whole.gguf").write_bytes(whole)
    (models / "truncated.gguf").write_bytes(whole[: len(whole) // 2])
    (models / "nonsense.gguf").write_bytes(b"GGUF" + b"\xff" * 4096)
    flipped = bytearray(whole)
    flipped[8:16] = b"\xff" * 8  # a tensor count that no file could hold
    (models / "lying.gguf").write_bytes(flipped)
    folder = models / "truncated-folder"
    shutil.copytree(GUIDE_FOLDER, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])

    with RunningStack(tmp_path / "stack.log", MODELS_DIR=str(models)) as stack:
        worker = stack.one("chat_worker")
        for model in ("truncated", "nonsense", "lying", "truncated-folder"):
            reply = ask(stack, model)
            assert reply.status_code == httpx.codes.SERVICE_UNAVAILABLE, reply.text
            error = reply.json()["error"]
            assert error["code"] == "BACKEND_LOAD_FAILED"
            assert error["message"]
        assert ask(stack, "whole").status_code == httpx.codes.OK
        assert stack.one("chat_worker") == worker


def test_with_no_models_at_all_the_server_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with RunningStack(
        tmp_path / "stack.log", MODELS_DIR=str(tmp_path / "models"), BUILTIN_MODELS="0"
    ) as stack:
        assert stack.http.get("/health").status_code == httpx.codes.OK
        for path, body in (
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
            ("/v1/embeddings", {"input": "hi"}),
        ):
            reply = stack.http.post(path, json=body)
            assert reply.status_code == httpx.codes.NOT_FOUND, reply.text
            error = reply.json()["error"]
            assert error["code"] == "model_not_found"
            assert any("models" in way for way in error["suggestions"])
