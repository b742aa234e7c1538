"""A model that has to be converted for OpenVINO where there is not the memory for it."""

import shutil
from pathlib import Path

import httpx

from embed_worker.discovery import EmbedModelScan, built_in_folder
from embed_worker.library import TORCH
from embed_worker.settings import EmbedSettings
from tests.running_stack import RunningStack

# Enough for such a model on torch, and too little for its conversion.
LIMIT_GB = "0.8"


MODEL = "unprepared"


def stack(tmp_path: Path, **settings: str) -> RunningStack:
    """A stack with a model that is the built-in one but for a file, so that none is prepared."""
    source = built_in_folder()
    assert source is not None
    shutil.copytree(source, tmp_path / "models" / MODEL)
    (tmp_path / "models" / MODEL / "note.json").write_text("{}")
    folders = {
        "MODELS_DIR": str(tmp_path / "models"),
        "CONVERTED_MODELS_DIR": str(tmp_path / "made"),
    }
    limits = {"EMBEDDING_MEMORY_LIMIT_GB": LIMIT_GB, "EMBEDDING_DEVICE": "cpu"}
    return RunningStack(tmp_path / "stack.log", **folders, **limits, **settings)


def test_torch_computes_and_the_reply_says_so(tmp_path: Path) -> None:
    with stack(tmp_path) as running:
        reply = running.http.post("/v1/embeddings", json={"model": MODEL, "input": "a"})
        assert reply.status_code == httpx.codes.OK, reply.text
        assert "its conversion is not done" in str(running.models()[MODEL])
    on_torch = EmbedSettings(_env_file=None, models_dir=tmp_path / "models", backend=TORCH)
    entry = next(each for each in EmbedModelScan(on_torch)().entries if each.id == MODEL)
    assert reply.json()["system_fingerprint"] == entry.fingerprint
    assert reply.headers["x-model-fingerprint"] == entry.fingerprint
    assert reply.headers["x-model-precision"].startswith("f32")
    assert not list((tmp_path / "made").glob("*")), "nothing was converted"


def test_where_torch_may_not_the_load_is_refused_with_the_arithmetic(tmp_path: Path) -> None:
    with stack(tmp_path, EMBEDDING_BACKEND="openvino") as running:
        worker = running.one("embed_worker")
        reply = running.http.post("/v1/embeddings", json={"model": MODEL, "input": "a"})
        assert reply.status_code == httpx.codes.SERVICE_UNAVAILABLE
        error = reply.json()["error"]
        assert (error["cause"], error["reason"]) == ("memory", "over_limit")
        assert int(error["needed_bytes"]) > int(error["limit_bytes"])
        assert running.one("embed_worker").pid == worker.pid
