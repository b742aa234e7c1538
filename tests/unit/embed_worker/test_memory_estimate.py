"""What an embedding model needs: its cache among it, and against real processes."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from common.sizes import MIB
from embed_worker import pipe_messages as m
from embed_worker.discovery import EmbedModelScan
from embed_worker.encoders.conversion_cache import CONVERSIONS
from embed_worker.library import LLAMA_CPP, OPENVINO, TORCH
from embed_worker.memory_estimate import load_options
from embed_worker.settings import EmbedSettings
from worker_runtime.catalog import ModelEntry
from worker_runtime.engine_process.launcher import ProcessLauncher
from worker_runtime.memory.need import Need
from worker_runtime.memory.probe import SystemMemoryProbe

BAR_SHARE, BAR_BYTES = 0.10, 64 * MIB
TEXTS: list[str | list[int]] = ["word " * n for n in (1, 2, 4, 8, 16, 32, 64, 128) * 8]


def entry_at(path: Path, **chosen: object) -> ModelEntry:
    settings = EmbedSettings(_env_file=None, **chosen)  # type: ignore[arg-type]
    entry = EmbedModelScan(settings).entry_at(path)
    assert entry is not None
    return entry


def need(entry: ModelEntry) -> Need:
    (option,) = load_options(entry)
    return option.need


@pytest.mark.parametrize("backend", [OPENVINO, TORCH, LLAMA_CPP])
def test_what_the_vector_cache_may_hold_is_booked(
    built_in: Path, minilm_gguf: Path, backend: str
) -> None:
    path = minilm_gguf if backend == LLAMA_CPP else built_in
    without = need(entry_at(path, backend=backend, cache_enabled=False))
    cached = need(entry_at(path, backend=backend, cache_mb=48))
    assert (without.caches, cached.caches) == (0, 48 * MIB)
    assert cached.total - without.total == 48 * MIB


def test_no_conversion_is_booked_for_the_built_in_model_which_is_prepared(
    built_in: Path, tmp_path: Path
) -> None:
    prepared, _ = load_options(entry_at(built_in, device="cpu", converted_dir=tmp_path))
    assert prepared.need.converting == 0


def test_a_conversion_is_booked_and_torch_is_what_is_left_without_the_memory_for_it(
    built_in: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(built_in, other)
    (other / "note.json").write_text("{}")
    entry = entry_at(other, device="cpu", converted_dir=tmp_path)
    converted, on_torch = load_options(entry)
    assert converted.need.converting > 500 * MIB
    assert converted.need.total > on_torch.need.total > converted.need.loaded
    assert on_torch.entry.fingerprint == entry_at(other, backend=TORCH).fingerprint
    assert on_torch.entry.fingerprint != converted.entry.fingerprint
    assert "conversion" in on_torch.reductions[0]


def test_what_cannot_be_converted_is_booked_for_torch_alone(built_in: Path, tmp_path: Path) -> None:
    entry = entry_at(built_in, device="cpu", converted_dir=tmp_path)
    (tmp_path / "kept").mkdir()
    CONVERSIONS.write(tmp_path / "kept", CONVERSIONS.refused(built_in, "its layers are unknown"))
    (option,) = load_options(entry)
    assert (option.entry.backend, option.need.converting) == (TORCH, 0)
    assert option.reductions == ("on torch, not OpenVINO: its layers are unknown",)


def test_weights_are_booked_in_the_numbers_that_they_are_computed_in(
    built_in: Path, tmp_path: Path
) -> None:
    halved = tmp_path / "halved"
    shutil.copytree(built_in, halved)
    tensors = load_file(built_in / "model.safetensors")
    floats = {name: t.bfloat16() if t.is_floating_point() else t for name, t in tensors.items()}
    save_file(floats, halved / "model.safetensors")
    whole, half = (need(entry_at(path, backend=OPENVINO)) for path in (built_in, halved))
    assert half.weights == whole.weights
    assert half.loading == whole.loading


@pytest.mark.parametrize("backend", [OPENVINO, TORCH])
def test_long_texts_are_booked(built_in: Path, tmp_path: Path, backend: str) -> None:
    long = tmp_path / "long"
    shutil.copytree(built_in, long)
    config = json.loads((long / "config.json").read_bytes())
    (long / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 8192}))
    (long / "sentence_bert_config.json").write_text("{}")
    short_need, long_need = (need(entry_at(p, backend=backend)) for p in (built_in, long))
    assert long_need.compute > 5 * short_need.compute
    assert long_need.weights == short_need.weights


@pytest.mark.parametrize("backend", [OPENVINO, TORCH, LLAMA_CPP])
async def test_the_peak_of_a_real_process_is_near_what_was_computed(
    built_in: Path, minilm_gguf: Path, converted_dir: Path, backend: str
) -> None:
    path = minilm_gguf if backend == LLAMA_CPP else built_in
    entry = entry_at(path, backend=backend, cache_mb=1, converted_dir=converted_dir)
    probe = SystemMemoryProbe()
    environment = EmbedSettings(_env_file=None).engine_environment
    # Converted for OpenVINO first, which takes more and happens once.
    for _ in range(2):
        engine = await ProcessLauncher(probe, environment).start(entry)
        try:
            await engine.load(entry.load_spec, lambda fraction, stage: None)
            await engine.unary(m.Embed(inputs=TEXTS))
            peak = probe.process(engine.pid).peak_bytes
        finally:
            await engine.stop(5)
        if backend != OPENVINO:
            break
    if not peak:
        pytest.skip("this system does not tell a process's peak")
    assert abs(need(entry).peak - peak) <= max(peak * BAR_SHARE, BAR_BYTES)
