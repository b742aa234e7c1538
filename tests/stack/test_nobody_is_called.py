"""Nothing is called but loopback, no file is written outside the folders that settings name.

Seen from within each Python process by an audit hook, and from below by a library that stands before
libc. One stack does what there is to do: both chat backends, a conversion, encoders on OpenVINO, torch
and llama.cpp. The home folder of its processes is empty and must stay so.
"""

import ipaddress
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from benchmarks.make_minilm_gguf import write as write_gguf
from embed_worker.service import built_in_folder
from tests.running_stack import GUIDE, ROOT, RunningStack
from tests.tiny_models import write_cross_encoder, write_embedder

AUDIT = ROOT / "tests" / "audit"
# An early openvino-telemetry, which must not even be loaded: it may be installed, or not.
TELEMETRY = 'raise SystemExit("openvino-telemetry was imported")\n'
KINDS = {
    "cli",
    "gateway",
    "chat_worker",
    "embed_worker",
    "chat_worker.engine_process",
    "embed_worker.encoder_process",
    "embed_worker.encoders.convert",
}
# Beside the folders of the test: no file there stays, or is anybody's.
HARMLESS = ("/dev/", "/proc/self/")


@dataclass(frozen=True)
class Note:
    kind: str
    what: str
    value: str


@dataclass(frozen=True)
class Audit:
    """What a stack did from its start to its end.

    Args:
        native: calls below Python, as `function host`; None where no compiler is.
    """

    folder: Path
    notes: list[Note]
    native: list[str] | None

    def values(self, what: str) -> set[str]:
        return {f"{note.kind}: {note.value}" for note in self.notes if note.what == what}


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    folder = tmp_path_factory.mktemp("audit")
    for name in ("home", "temp", "cache", "notes", "telemetry"):
        (folder / name).mkdir()
    (folder / "telemetry" / "openvino_telemetry.py").write_text(TELEMETRY)
    _make_models(folder / "models")
    shim = _native_shim(folder)
    environment = {
        "PYTHONPATH": f"{AUDIT}:{folder / 'telemetry'}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "AUDIT_FOLDER": str(folder / "notes"),
        "NATIVE_CALLS": str(folder / "native"),
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "temp"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "MODELS_DIR": str(folder / "models"),
        "KV_CACHE_DIR": str(folder / "kv"),
        "EMBEDDING_CACHE_DIR": str(folder / "vectors"),
        **({"LD_PRELOAD": str(shim)} if shim else {}),
    }
    with RunningStack(folder / "stack.log", **environment) as stack:
        _use(stack)
    native = (folder / "native").read_text().splitlines() if shim else None
    return Audit(folder, list(_notes(folder / "notes")), native)


def _make_models(folder: Path) -> None:
    guide = ROOT / "models" / "guide" / GUIDE
    shutil.copytree(guide, folder / "as-folder", ignore=shutil.ignore_patterns("*.gguf"))
    write_embedder(folder / "embedding" / "tiny")
    write_cross_encoder(folder / "embedding" / "ranker")
    built_in = built_in_folder()
    assert built_in is not None
    write_gguf(built_in, folder / "embedding" / "minilm-f16.gguf")


def _native_shim(folder: Path) -> Path | None:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    library = folder / "native_calls.so"
    command = [compiler, "-shared", "-fPIC", "-o", library, AUDIT / "native_calls.c", "-ldl"]
    subprocess.run(command, check=True)
    return library


def _use(stack: RunningStack) -> None:
    """Have each kind of engine, encoder and converter do its work."""
    for model in (GUIDE, "as-folder"):
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
        _ask(stack, "/v1/chat/completions", body)
    for model in ("tiny", "minilm-f16"):
        _ask(stack, "/v1/embeddings", {"model": model, "input": "the capital of france"})
    ranking = {"model": "ranker", "query": "what is yellow", "documents": ["bananas", "paris"]}
    _ask(stack, "/v1/rerank", ranking)
    backends = {model.get("backend") for model in stack.models().values()}
    assert backends >= {"llama.cpp", "transformers", "openvino", "cross-encoder"}, backends
    # Caches are given back, and what is kept on disk is written.
    _ask(stack, "/v1/models/unload", {"model": GUIDE})


def _ask(stack: RunningStack, path: str, body: Mapping[str, object]) -> None:
    reply = stack.http.post(path, json=body)
    assert reply.status_code == httpx.codes.OK, reply.text


def _notes(folder: Path) -> Iterator[Note]:
    for path in folder.iterdir():
        for line in path.read_text().splitlines():
            arguments, what, value = json.loads(line)
            kind = arguments[arguments.index("-m") + 1] if "-m" in arguments else str(arguments)
            yield Note(kind, what, value)


def _is_ours(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        # A path is a Unix socket.
        return host.startswith("/")


def test_every_kind_of_process_was_watched(audit: Audit) -> None:
    assert {note.kind for note in audit.notes} >= KINDS


def test_python_code_calls_nobody_but_this_machine(audit: Audit) -> None:
    called = {note for note in audit.notes if note.what == "call"}
    assert called
    assert {note for note in called if not _is_ours(note.value)} == set()


def test_native_code_calls_nobody_but_this_machine(audit: Audit) -> None:
    if audit.native is None:
        pytest.skip("no C compiler here, or another system's libraries")
    assert audit.native, "the workers' gRPC is native code"
    assert {line for line in audit.native if not _is_ours(line.split(" ", 1)[1])} == set()


def test_files_are_written_in_the_folders_that_settings_name_alone(audit: Audit) -> None:
    written = {note for note in audit.notes if note.what == "write"}
    assert written
    inside = (f"{audit.folder}/", *HARMLESS)
    assert {note for note in written if not note.value.startswith(inside)} == set()
    assert {path.name for path in (audit.folder / "cache").iterdir()} <= {"y26hkx"}


def test_the_home_folder_stays_empty(audit: Audit) -> None:
    assert list((audit.folder / "home").iterdir()) == []


def test_no_program_is_started_but_ours_and_what_tells_of_the_machine(audit: Audit) -> None:
    assert audit.values("start") <= {""}
