"""What the scan of the disk finds, and which model is the default."""

import json
import shutil
from pathlib import Path

import pytest

from chat_worker.discovery import ChatModelScan
from chat_worker.pipe_messages import spec_decoder
from chat_worker.places import GUIDE_ID
from chat_worker.settings import ChatSettings
from tests.made_models import gguf
from worker_runtime.catalog import ModelEntry


def scan(models_dir: Path, **changed: object) -> tuple[dict[str, ModelEntry], str]:
    plain = {"models_dir": models_dir, "model_path": models_dir / "none", "_env_file": None}
    found = ChatModelScan(ChatSettings(**(plain | changed)))()  # type: ignore[arg-type]
    return {entry.id: entry for entry in found.entries}, found.default_id


@pytest.fixture
def library(tmp_path: Path, tiny_gguf: Path) -> Path:
    (tmp_path / "qwen").mkdir()
    shutil.copy(tiny_gguf, tmp_path / "first.gguf")
    shutil.copy(tiny_gguf, tmp_path / "qwen" / "second.gguf")
    return tmp_path


def folder_of_transformers(path: Path, architecture: str = "Qwen2ForCausalLM") -> Path:
    path.mkdir(parents=True)
    config = {"architectures": [architecture], "max_position_embeddings": 99}
    (path / "config.json").write_text(json.dumps(config))
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    return path


def test_models_in_the_folder_and_its_known_subfolders_are_found(library: Path) -> None:
    found, _ = scan(library)
    assert {"first", "second", GUIDE_ID} <= set(found)
    assert found["first"].backend == "llama.cpp"
    assert found["first"].context_length == 2048
    assert found["first"].fingerprint.startswith("fp_")


def test_without_a_main_model_the_guide_is_the_default(library: Path) -> None:
    assert scan(library)[1] == GUIDE_ID


def test_the_main_model_is_the_default_wherever_it_is(library: Path, tiny_gguf: Path) -> None:
    found, default = scan(library, model_path=tiny_gguf)
    assert default == "tiny"
    assert found["tiny"].path == tiny_gguf


def test_a_folder_of_files_as_main_model_means_its_usual_quantization(library: Path) -> None:
    shutil.copy(library / "first.gguf", library / "qwen" / "second-Q4_K_M.gguf")
    _, default = scan(library, model_path=library / "qwen")
    assert default == "second-Q4_K_M"


def test_a_truncated_file_is_listed_as_broken_with_the_reason(library: Path) -> None:
    whole = (library / "first.gguf").read_bytes()
    (library / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    found, _ = scan(library)
    assert "truncated" in found["cut"].broken
    assert not found["first"].broken


def test_the_gguf_of_two_models_with_one_id_is_taken_unless_told_otherwise(library: Path) -> None:
    folder_of_transformers(library / "first")
    assert scan(library)[0]["first"].backend == "llama.cpp"
    assert scan(library, backend="transformers")[0]["first"].backend == "transformers"


def test_folders_that_do_not_chat_are_left_out(library: Path) -> None:
    folder_of_transformers(library / "encoder", "BertModel")
    folder_of_transformers(library / "embedder")
    (library / "embedder" / "modules.json").write_text("[]")
    found, _ = scan(library)
    assert not {"encoder", "embedder"} & set(found)


def test_the_engine_gets_the_settings(library: Path) -> None:
    found, _ = scan(
        library,
        context_tokens=1000,
        parallel=3,
        default_system_prompt="hi",
        on_overflow="refuse",
        answer_wait_s=1.5,
        flash_attention="off",
    )
    spec = spec_decoder.decode(found["first"].load_spec)
    assert (spec.n_ctx, spec.n_parallel, spec.on_overflow) == (1000, 3, "refuse")
    assert (spec.default_system_prompt, spec.answer_wait_s) == ("hi", 1.5)
    assert not spec.flash_attention


def test_backends_are_known_by_the_earlier_servers_names() -> None:
    assert ChatSettings(backend="llamacpp", _env_file=None).backend == "llama.cpp"
    with pytest.raises(ValueError, match="abacus"):
        ChatSettings(backend="abacus", _env_file=None)


def test_models_for_embedding_are_not_chat_models(library: Path, tiny_gguf: Path) -> None:
    (library / "embedding").mkdir()
    shutil.copy(tiny_gguf, library / "embedding" / "embedder.gguf")
    found, _ = scan(library)
    assert "embedder" not in found
    assert "first" in found


def test_a_folder_is_loaded_as_the_old_settings_say(library: Path) -> None:
    folder_of_transformers(library / "folder")
    settings = {"torch_dtype": "BF16", "quantization": "4bit", "torch_threads": 3, "threads": 5}
    found, _ = scan(library, **settings)
    of_folder = spec_decoder.decode(found["folder"].load_spec)
    assert (of_folder.torch_dtype, of_folder.quantization) == ("bfloat16", "4bit")
    assert (of_folder.n_threads, of_folder.repetition_penalty) == (3, 1.1)
    of_file = spec_decoder.decode(found["first"].load_spec)
    assert (of_file.n_threads, of_file.repetition_penalty) == (5, 1.0)


@pytest.fixture
def home(tmp_path: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user who has LM Studio, Ollama and Hugging Face's cache."""
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    for name in ("XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "OLLAMA_MODELS"):
        monkeypatch.delenv(name, raising=False)
    studio = home / ".lmstudio/models/publisher/repository"
    studio.mkdir(parents=True)
    shutil.copy(tiny_gguf, studio / "studio-Q4_K_M.gguf")
    snapshot = home / ".cache/huggingface/hub/models--org--cached/snapshots/0a1b"
    folder_of_transformers(snapshot)
    shutil.copy(tiny_gguf, snapshot.parent.parent.parent / "loose.gguf")
    blobs = home / ".ollama/models/blobs"
    blobs.mkdir(parents=True)
    shutil.copy(tiny_gguf, blobs / f"sha256-{'0' * 64}")
    for name in ("library/small/0.5b", "library/small/latest", "someone/own/q4"):
        write_manifest(home, name, "0" * 64)
    write_manifest(home, "library/gone/latest", "1" * 64)
    return home


def write_manifest(home: Path, name: str, digest: str) -> None:
    layers = [
        {"mediaType": "application/vnd.ollama.image.template", "digest": f"sha256:{'2' * 64}"},
        {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}"},
    ]
    file = home / ".ollama/models/manifests/registry.ollama.ai" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))


def test_models_of_other_programs_are_listed_where_they_are_if_that_is_set(
    library: Path, home: Path
) -> None:
    before, _ = scan(library)
    found, default = scan(library, model_sources="auto")
    new = {id: entry for id, entry in found.items() if id not in before}
    assert set(new) == {"studio-Q4_K_M", "small:0.5b", "gone", "org/cached"}
    assert "missing" in new["gone"].broken
    assert new["small:0.5b"].path.parent == home / ".ollama/models/blobs"
    assert new["small:0.5b"].context_length == 2048
    assert new["small:0.5b"].options.aliases == ("small", "someone/own:q4")
    assert default == GUIDE_ID
    found, _ = scan(library, model_sources="lmstudio")
    assert set(found) - set(before) == {"studio-Q4_K_M"}


def test_what_states_a_pooling_is_no_chat_model_of_other_programs(
    library: Path, home: Path
) -> None:
    (home / ".lmstudio/models/publisher/repository/qwen3-embedding.gguf").write_bytes(gguf())
    (library / "qwen3-embedding-too.gguf").write_bytes(gguf())
    found, _ = scan(library, model_sources="lmstudio")
    assert "qwen3-embedding" not in found
    # Here the folder embedding says what a model is for.
    assert "qwen3-embedding-too" in found


@pytest.mark.parametrize(
    "digest", ["../../../../etc/passwd", "sha256:" + "0" * 63, "0" * 64 + "/../x"]
)
def test_a_manifest_leads_nowhere_but_to_blobs(library: Path, home: Path, digest: str) -> None:
    write_manifest(home, "library/odd/latest", digest)
    odd = home / ".ollama/models/manifests/registry.ollama.ai/library/odd"
    (odd / "broken").write_bytes(b"[" * 10_000)
    (odd / "other").write_text('{"layers": [{"mediaType": 7}]}')
    found, _ = scan(library, model_sources="ollama")
    assert not any(id.startswith("odd") for id in found)


def test_a_source_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="lmstdio is not one of auto, lmstudio, ollama"):
        ChatSettings(model_sources="lmstdio", _env_file=None)
