"""A model's matrices are stored in the order in which they are multiplied fastest."""

import ctypes
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.make_qwen_shape import quantize
from worker_runtime import llama_model, llama_native, weight_buffers
from worker_runtime.ggml_native import CPU_DEVICE, F32, Ggml
from worker_runtime.llama_model import load_model
from worker_runtime.model_files.gguf import GgufTensor, read_gguf_header
from worker_runtime.product_timing import FAR_BYTES, MAX_IN, MAX_ROWS, Kind, Seconds, Timing
from worker_runtime.weight_buffers import (
    REQUEST,
    Buffers,
    Override,
    expected_products,
    fastest_buffers,
    kind_of,
    overrides,
    reordering_pays,
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


def matrix(name: str, number: int = Q4_K, *shape: int) -> GgufTensor:
    return GgufTensor(name, shape or (256, 512), number, 4096)


def kind(name: str, number: int = Q4_K, *shape: int) -> Kind:
    found = kind_of(matrix(name, number, *shape))
    assert found is not None
    return found


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
        Kind(Q4_0, 256, 512): Seconds(9.0, {TILES: 1.0, ROWS: 3.0}),
        Kind(Q4_K, 256, 512): Seconds(9.0, {TILES: 2.0, ROWS: 1.0}),
    }
    moved = matched(overrides(tensors, times), [*names, "output.weight", *others])
    assert moved == {ROWS: [name for name in [*names, "output.weight"] if ".1." not in name]}


@pytest.mark.parametrize(
    "times", [{TILES: 1.0, ROWS: 0.95}, {TILES: 1.0, ROWS: 2.0}, {ROWS: 1.0}, {}]
)
def test_what_is_not_clearly_faster_elsewhere_stays(times: dict[int, float]) -> None:
    told = overrides([matrix("blk.0.ffn_up.weight")], {Kind(Q4_K, 256, 512): Seconds(0.1, times)})
    assert told is None


def test_matrices_are_reordered_if_all_of_them_together_are_clearly_faster_so() -> None:
    few, many = Kind(Q4_0, 256, 512), Kind(Q4_K, 256, 512)
    experts, floats = many._replace(of_experts=True), Kind(F32, 256, 512)
    times = {
        few: Seconds(4.0, {TILES: 9.0, ROWS: 1.0}),
        many: Seconds(1.0, {ROWS: 1.7}),
        experts: Seconds(1.0, {ROWS: 1.7}),
        floats: Seconds(0.0, {}),
    }
    assert reordering_pays({few: 1}, times, 1)
    assert not reordering_pays({many: 4}, times, 1)
    assert not reordering_pays({few: 1, many: 4}, times, 1), "8 s against 7.8 s"
    assert reordering_pays({few: 1, experts: 1}, times, 2)
    assert not reordering_pays({few: 1, experts: 1}, times, 8), "more experts take more time"
    assert reordering_pays({floats: 9}, times, 1), "llama.cpp decides"


def test_products_are_timed_in_each_order_that_the_matrix_can_have(ggml: Ggml) -> None:
    device = ggml.functions.ggml_backend_dev_by_type(CPU_DEVICE)
    extra = ggml.extra_buffers(device)
    large = kind("output.weight", Q4_0, 2 * MAX_IN, 8 * MAX_ROWS)
    small = kind("output.weight", Q4_0, MAX_IN, MAX_ROWS)
    odd = kind("output.weight", Q4_0, 256, 8 * MAX_ROWS + 1)
    floats = kind("output.weight", F32, 256, 64)
    experts = kind("blk.0.ffn_up_exps.weight", Q4_0, 256, 64, 8)
    far = kind("output.weight", Q4_0, 256, FAR_BYTES // 64)
    kinds = (large, small, odd, floats, experts, far)
    times = Timing(ggml, device, REQUEST).of(dict.fromkeys(kinds, 1), extra)
    assert times[floats] == Seconds(0.0, {}), "there is nothing to choose"
    if not extra:
        pytest.skip("llama.cpp has one order on this processor")
    for each in (large, small, experts, far):
        assert times[each].in_file > 0
        assert times[each].reordered[extra[-1]] > 0
    assert times[large].in_file > 8 * times[small].in_file, "a part is measured, and scaled"
    assert extra[-1] not in times[odd].reordered, "rows are repacked in groups"


@pytest.mark.parametrize(
    "tensor",
    [
        matrix("output.weight", 99),
        matrix("output.weight", 4),
        matrix("output.weight", Q4_0, 250, 8),
        matrix("output.weight", Q4_0, 256),
        matrix("output.weight", Q4_0, 256, 8, 2),
        matrix("token_embd.weight", Q4_0),
        GgufTensor("output.weight", (0, 8), Q4_0, 0),
    ],
)
def test_what_llama_cpp_would_not_multiply_is_not_timed(tensor: GgufTensor) -> None:
    assert kind_of(tensor) is None


class FasterPrompts:
    """Times of a processor that computes prompts twice as fast in the file's order, and answers
    half as fast."""

    def __init__(self, _ggml: Ggml, _device: int, products: dict[int, float]) -> None:
        in_file, reordered = {64: 16, 4: 8, 1: 2}, {64: 32, 4: 4, 1: 1}
        self._seconds = Seconds(
            sum(in_file[n] * count for n, count in products.items()),
            {ROWS: sum(reordered[n] * count for n, count in products.items())},
        )

    def of(self, counts: Iterable[Kind], _buffers: list[int]) -> dict[Kind, Seconds]:
        return dict.fromkeys(counts, self._seconds)


def test_the_order_depends_on_what_the_model_is_used_for(
    quantized: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ggml, "extra_buffers", lambda self, device: [ROWS])
    monkeypatch.setattr(weight_buffers, "Timing", FasterPrompts)
    assert not fastest_buffers(quantized, expected_products({})).extra
    assert fastest_buffers(quantized, expected_products({1: 5000.0})).extra
    assert not fastest_buffers(quantized, expected_products({1: 5000.0, 64: 500.0})).extra
    assert not fastest_buffers(quantized, {64: 1.0}).extra


def test_nothing_is_timed_where_there_is_one_order(
    ggml: Ggml, quantized: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ggml, "extra_buffers", lambda self, device: [])
    monkeypatch.setattr(weight_buffers, "read_gguf_headers", None)
    assert fastest_buffers(quantized, REQUEST) == Buffers()


@pytest.mark.parametrize("content", [b"", b"GGUF\x03\0\0\0", b"\0" * 4096])
def test_llama_cpp_is_left_to_refuse_a_file_that_is_no_model(
    content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "a.gguf").write_bytes(content)
    assert fastest_buffers(tmp_path / "a.gguf", REQUEST) == Buffers()
    assert fastest_buffers(tmp_path / "gone.gguf", REQUEST) == Buffers()


@pytest.mark.parametrize("is_faster", [True, False])
def test_a_model_is_loaded_in_the_order_that_is_faster_and_computes_the_same(
    *, is_faster: bool, ggml: Ggml, quantized: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, lines = loaded(quantized, Buffers(), monkeypatch)
    if not any(REPACKED in line for line in lines):
        pytest.skip("llama.cpp repacks nothing on this processor")
    reordered = {ROWS: 1.0 if is_faster else 4.0}
    monkeypatch.setattr(
        Timing, "of", lambda self, counts, buffers: dict.fromkeys(counts, Seconds(2.0, reordered))
    )
    logits, lines = loaded(quantized, fastest_buffers(quantized, REQUEST), monkeypatch)
    assert any(REPACKED in line for line in lines) == is_faster
    assert max(abs(a - b) for a, b in zip(usual, logits, strict=True)) < 0.1


def test_matrices_are_loaded_into_the_buffer_that_was_chosen(
    ggml: Ggml, quantized: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, lines = loaded(quantized, Buffers(), monkeypatch)
    if not any(REPACKED in line for line in lines):
        pytest.skip("llama.cpp repacks nothing on this processor")
    # Stands for a second order: the same as in the file, under another name than the usual one.
    other = buffer_from_pointer()
    tensors = [tensor for tensor in read_gguf_header(quantized).tensors if kind_of(tensor)]
    seconds = Seconds(9.0, {TILES: 2.0, other: 1.0})
    told = overrides(tensors, {found: seconds for t in tensors if (found := kind_of(t))})
    moved, lines = loaded(quantized, Buffers(overrides=told), monkeypatch)
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


def loaded(
    path: Path, buffers: Buffers, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[float], list[str]]:
    """The logits after some tokens, and what llama.cpp logged."""
    monkeypatch.setattr(llama_model, "fastest_buffers", lambda path, products: buffers)
    native = llama_native.load_native()
    lines: list[str] = []
    callback = native.llama_log_callback(lambda level, text, user: lines.append(text.decode()))
    native.llama_log_set(callback, ctypes.c_void_p(0))
    try:
        model = load_model(
            native, path, lambda fraction: None, extra_buffers=True, products=REQUEST
        )
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
