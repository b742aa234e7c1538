"""Nothing is called but loopback, no file is written outside the folders that settings name.

One stack does what there is to do: both chat backends, a conversion, encoders on OpenVINO, torch
and llama.cpp. The home folder of its processes is empty and must stay so.
"""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from benchmarks.make_minilm_gguf import write as write_gguf
from embed_worker.discovery import built_in_folder
from tests.audit.watch import Watch, is_this_machine
from tests.running_stack import GUIDE, ROOT, RunningStack
from tests.tiny_models import write_cross_encoder, write_embedder

# Our own set-up leaves the real one out; what pip installed may have it. It does what that does.
TELEMETRY = """\
import contextlib, pathlib, socket
(pathlib.Path.home() / "intel").mkdir(exist_ok=True)
with contextlib.suppress(OSError):
    socket.gethostbyname("telemetry.invalid")
"""
KINDS = {
    "cli",
    "gateway",
    "chat_worker",
    "embed_worker",
    "chat_worker.engine_process",
    "embed_worker.encoder_process",
    "embed_worker.encoders.convert",
}
# torch is imported by four processes, one after the other.
pytestmark = pytest.mark.timeout(400)
TEXTS = ["bananas are yellow", "the capital of france is paris"]


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Watch:
    """What was seen of a stack from its start to its end."""
    watch = Watch(tmp_path_factory.mktemp("watched"))
    folder = watch.folder
    (folder / "telemetry").mkdir()
    (folder / "telemetry" / "openvino_telemetry.py").write_text(TELEMETRY)
    _make_models(folder / "models")
    environment = watch.environment | {
        "MODELS_DIR": str(folder / "models"),
        "KV_CACHE_DIR": str(folder / "kv"),
        "EMBEDDING_CACHE_DIR": str(folder / "vectors"),
    }
    environment["PYTHONPATH"] += f":{folder / 'telemetry'}"
    with RunningStack(folder / "stack.log", **environment) as stack:
        _use(stack)
    return watch


def _make_models(folder: Path) -> None:
    guide = ROOT / "models" / "guide" / GUIDE
    shutil.copytree(guide, folder / "as-folder", ignore=shutil.ignore_patterns("*.gguf"))
    write_embedder(folder / "embedding" / "tiny")
    write_cross_encoder(folder / "embedding" / "ranker")
    built_in = built_in_folder()
    assert built_in is not None
    write_gguf(built_in, folder / "embedding" / "minilm-f16.gguf")


def _use(stack: RunningStack) -> None:
    """Have each kind of engine, encoder and converter do its work."""
    turn = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
    calls: list[tuple[str, Mapping[str, object]]] = [
        *(("/v1/chat/completions", {"model": model, **turn}) for model in (GUIDE, "as-folder")),
        *(("/v1/embeddings", {"model": m, "input": TEXTS}) for m in ("tiny", "minilm-f16")),
        ("/v1/rerank", {"model": "ranker", "query": "what is yellow", "documents": TEXTS}),
    ]
    for path, body in calls:
        reply = stack.http.post(path, json=body)
        assert reply.status_code == httpx.codes.OK, reply.text
    backends = {model.get("backend") for model in stack.models().values()}
    assert backends >= {"llama.cpp", "transformers", "openvino", "cross-encoder"}, backends
    # What is kept on disk is written as a model goes.
    stack.http.post("/v1/models/unload", json={"model": GUIDE}).raise_for_status()


def test_every_kind_of_process_was_watched(watch: Watch) -> None:
    assert {note.kind for note in watch.notes()} >= KINDS


def test_python_code_calls_nobody_but_this_machine(watch: Watch) -> None:
    assert watch.called()
    assert [host for host in watch.called() if not is_this_machine(host)] == []


def test_native_code_calls_nobody_but_this_machine(watch: Watch) -> None:
    called = watch.called_natively()
    if called is None:
        pytest.skip("it takes a C compiler and Linux")
    assert called, "gRPC in the gateway is native code that connects to workers"
    assert [host for host in called if not is_this_machine(host)] == []


def test_files_are_written_in_the_folders_that_settings_name_alone(watch: Watch) -> None:
    assert any(note.what == "write" for note in watch.notes())
    assert watch.written_elsewhere() == set()
    assert list(watch.home.iterdir()) == []
    assert {path.name for path in watch.caches.iterdir()} <= {"y26hkx"}


def test_no_program_is_started_but_ours_and_what_tells_of_the_gpu(watch: Watch) -> None:
    started = {note.value for note in watch.notes() if note.what == "start"}
    assert started <= {sys.executable, "nvidia-smi"}
