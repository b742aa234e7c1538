"""Each matrix is stored where it is multiplied fastest."""

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.make_qwen_shape import quantize
from worker_runtime import llama_model, llama_native, weight_buffers
from worker_runtime.ggml_native import CPU_DEVICE, F32, Ggml
from worker_runtime.llama_model import load_model
from worker_runtime.model_files.gguf import GgufTensor, read_gguf_header
from worker_runtime.weight_buffers import (
    MAX_ROWS,
    Override,
    Timing,
    faster_buffers,
    is_multiplied,
    kind_of,
    overrides,
)

GUIDE = Path(__file__).parents[3] / "models/guide/qwen2-y26hkx-guide.gguf"
Q4_0, Q4_K = 2, 12
REPACKED = "CPU_REPACK model buffer size"
TILES, ROWS = 0x1000, 0x2000  # two buffer types
TOKENS = (1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def ggml() -> Ggml:
    return Ggml()


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "guide.gguf"
    quantize(GUIDE, path, "Q4_0")
    return path


def matrix(name: str, kind: int = Q4_K, n_rows: int = 512) -> GgufTensor:
    return GgufTensor(name, (256, n_rows), kind, 0)


def matched(told: "ctypes.Array[Override] | None", names: list[str]) -> dict[int, list[str]]:
    assert told is not None
    *entries, last = told
    assert not last.pattern, "llama.cpp reads up to an empty entry"
    return {
        each.buffer: [name for name in names if re.search(each.pattern.decode(), name)]
        for each in entries
    }


def test_matrices_move_to_the_buffer_that_is_faster_for_their_kind() -> None:
    names = [f"blk.{i}.{what}.weight" for i in range(12) for what in ("attn_q", "ffn_up")]
    others = ["token_embd.weight", "blk.1.attn_q.bias", "blk.1.attn_qkv.weight", "xblk.1.ffn_up"]
    tensors = [matrix(name, Q4_0 if ".1." in name else Q4_K) for name in [*names, "output.weight"]]
    times = {
        (Q4_0, 256, 512): {TILES: 1.0, ROWS: 3.0},
        (Q4_K, 256, 512): {TILES: 2.0, ROWS: 1.0},
    }
    moved = matched(overrides(tensors, times), [*names, "output.weight", *others])
    assert moved == {ROWS: [name for name in [*names, "output.weight"] if ".1." not in name]}


@pytest.mark.parametrize(
    "times", [{TILES: 1.0, ROWS: 0.95}, {TILES: 1.0, ROWS: 2.0}, {ROWS: 1.0}, {}]
)
def test_what_is_not_clearly_faster_elsewhere_stays(times: dict[int, float]) -> None:
    assert overrides([matrix("blk.0.ffn_up.weight")], {(Q4_K, 256, 512): times}) is None


def test_products_are_timed_in_each_buffer_that_can_hold_the_matrix(ggml: Ggml) -> None:
    device = ggml.functions.ggml_backend_dev_by_type(CPU_DEVICE)
    plain = ggml.functions.ggml_backend_dev_buffer_type(device)
    extra = ggml.extra_buffers(device)
    large = (Q4_0, 256, 8 * MAX_ROWS)
    odd = (Q4_0, 256, 8 * MAX_ROWS + 1)
    times = Timing(ggml, device).of([large, odd, (F32, 256, 64)], [*extra, plain])
    assert all(seconds > 0 for kind in times.values() for seconds in kind.values())
    assert [plain in kind for kind in times.values()] == [True] * 3
    if extra:
        assert extra[-1] in times[large]
        assert extra[-1] not in times[odd], "rows are repacked in groups"


def test_nothing_is_timed_where_there_is_one_order(
    ggml: Ggml, quantized: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ggml, "extra_buffers", lambda self, device: [TILES])
    monkeypatch.setattr(weight_buffers, "read_gguf_header", None)
    assert faster_buffers(quantized) is None


def test_a_model_is_loaded_as_chosen_and_computes_the_same(
    ggml: Ggml, quantized: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, lines = loaded(quantized)
    if not any(REPACKED in line for line in lines):
        pytest.skip("llama.cpp repacks nothing on this processor")
    # Stands for a second order: the same as in the file, under another name than the usual one.
    other = buffer_from_pointer()
    tensors = [t for t in read_gguf_header(quantized).tensors if is_multiplied(t)]
    times = {kind_of(tensor): {TILES: 2.0, other: 1.0} for tensor in tensors}
    told = overrides(tensors, times)
    monkeypatch.setattr(llama_model, "faster_buffers", lambda path: told)
    moved, lines = loaded(quantized)
    assert not any(REPACKED in line for line in lines)
    assert max(abs(a - b) for a, b in zip(usual, moved, strict=True)) < 0.1


def buffer_from_pointer() -> int:
    native = llama_native.load_native()
    make = llama_native.ggml_function(native, "ggml_backend_cpu_buffer_from_ptr")
    make.restype, make.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_size_t)
    type_of = llama_native.ggml_function(native, "ggml_backend_buffer_get_type")
    type_of.restype, type_of.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
    memory = ctypes.create_string_buffer(256)
    aligned = (ctypes.addressof(memory) + 127) // 64 * 64
    return int(type_of(make(aligned, 64)))


def loaded(path: Path) -> tuple[list[float], list[str]]:
    """The logits after some tokens, and what llama.cpp logged."""
    native = llama_native.load_native()
    lines: list[str] = []
    callback = native.llama_log_callback(lambda level, text, user: lines.append(text.decode()))
    native.llama_log_set(callback, ctypes.c_void_p(0))
    try:
        model = load_model(native, path, lambda fraction: None, extra_buffers=True)
        assert model
    finally:
        usual = llama_native._callbacks[0]  # noqa: SLF001 - there is no other way back
        native.llama_log_set(usual, ctypes.c_void_p(0))
    return list(_logits(native, model)), lines


def _logits(native: Any, model: Any) -> Iterator[float]:
    context = native.llama_init_from_model(model, native.llama_context_default_params())
    tokens = (ctypes.c_int32 * len(TOKENS))(*TOKENS)
    assert native.llama_decode(context, native.llama_batch_get_one(tokens, len(TOKENS))) == 0
    vocabulary = native.llama_vocab_n_tokens(native.llama_model_get_vocab(model))
    yield from native.llama_get_logits_ith(context, -1)[:vocabulary]
    native.llama_free(context)
    native.llama_model_free(model)
