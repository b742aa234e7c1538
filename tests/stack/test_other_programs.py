"""Models that other programs downloaded, served from where they are."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.make_minilm_gguf import write
from embed_worker.discovery import built_in_folder
from tests.running_stack import GUIDE, ROOT, RunningStack

GUIDE_FILE = ROOT / "models" / "guide" / f"{GUIDE}.gguf"
CACHED = "sentence-transformers/all-MiniLM-L6-v2"
COMMIT = "0a1b2c3d"


def put_into_ollama(root: Path, name: str, tag: str, model: Path) -> None:
    """As Ollama keeps a model: a manifest that names its weights by their digest."""
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    blob = root / "blobs" / f"sha256-{digest}"
    blob.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(model, blob)
    layers = [
        {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": f"sha256:{one}"}
        for kind, one in (("license", "1" * 64), ("model", digest))
    ]
    manifest = root / "manifests/registry.ollama.ai/library" / name / tag
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))


def put_into_hub_cache(root: Path, model: Path) -> None:
    """As the hub's library keeps a repository: names in a snapshot lead to blobs."""
    repository = root / f"models--{CACHED.replace('/', '--')}"
    snapshot, blobs = repository / "snapshots" / COMMIT, repository / "blobs"
    blobs.mkdir(parents=True)
    for file in (path for path in model.rglob("*") if path.is_file()):
        blob = blobs / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copy(file, blob)
        link = snapshot / file.relative_to(model)
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            link.symlink_to(os.path.relpath(blob, link.parent))
        except OSError:
            # On Windows only some users may make links; the library copies there, too.
            shutil.copy(file, link)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def stack(home: Path) -> Iterator[RunningStack]:
    built_in = built_in_folder()
    assert built_in is not None
    write(built_in, home / "minilm.gguf")
    for name, tag, model in (
        ("small", "8m", GUIDE_FILE),
        ("all-minilm", "latest", home / "minilm.gguf"),
    ):
        put_into_ollama(home / "ollama", name, tag, model)
    put_into_hub_cache(home / "hub", built_in)
    (home / "models").mkdir()
    variables = {
        "MODEL_SOURCES": "ollama,huggingface",
        "OLLAMA_MODELS": str(home / "ollama"),
        "HF_HUB_CACHE": str(home / "hub"),
        "MODELS_DIR": str(home / "models"),
        "BUILTIN_MODELS": "0",
    }
    with RunningStack(home / "log", **variables) as running:
        yield running


def files_of(home: Path) -> dict[str, tuple[int, int]]:
    found = [path for name in ("ollama", "hub", "models") for path in (home / name).rglob("*")]
    states = {path: path.lstat() for path in found}
    return {str(path): (state.st_size, state.st_mtime_ns) for path, state in states.items()}


def test_each_model_is_listed_once_with_what_it_can_do(stack: RunningStack) -> None:
    models = stack.http.get("/v1/models").json()["data"]
    found = {model["id"]: model["capability"] for model in models}
    assert found == {"small:8m": "chat", "all-minilm": "embed", CACHED: "embed"}


def test_a_blob_of_ollama_chats_in_place(stack: RunningStack, home: Path) -> None:
    before = files_of(home)
    body = {
        "model": "small:8m",
        "messages": [{"role": "user", "content": "What are you?"}],
        "temperature": 0,
        "max_tokens": 8,
    }
    reply = stack.http.post("/v1/chat/completions", json=body)
    assert "qwen2" in reply.json()["choices"][0]["message"]["content"]
    assert files_of(home) == before


@pytest.mark.parametrize("model", ["all-minilm", CACHED])
def test_embedding_models_answer_in_place(stack: RunningStack, home: Path, model: str) -> None:
    before = files_of(home)
    reply = stack.http.post("/v1/embeddings", json={"model": model, "input": ["a cat", "a dog"]})
    assert reply.status_code == httpx.codes.OK, reply.text
    assert len(reply.json()["data"]) == 2
    assert files_of(home) == before


def test_a_model_of_another_program_is_not_deleted(stack: RunningStack, home: Path) -> None:
    before = files_of(home)
    reply = stack.http.delete("/v1/models/small:8m")
    assert reply.status_code == httpx.codes.BAD_REQUEST
    assert reply.json()["error"]["message"] == "small:8m is not in the models folder"
    assert files_of(home) == before
