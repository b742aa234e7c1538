"""Chat models on OpenVINO beside transformers and llama.cpp: the same text, logits and weights."""

import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import openvino
import pytest
import torch

from benchmarks import perplexity
from benchmarks.make_qwen_shape import TINY, quantize
from chat_worker.backend import Backend
from chat_worker.backends.llama_cpp.load import load as load_gguf
from chat_worker.backends.openvino.compiled import compile_model
from chat_worker.backends.openvino.decoder_graph import decoder_graph
from chat_worker.backends.openvino.gguf_tensors import GgufTensors
from chat_worker.backends.openvino.original import read_original, runner_logits
from chat_worker.backends.openvino.runner import OpenVinoRunner
from chat_worker.backends.openvino.weights import DecoderWeights
from chat_worker.engine.runner import Limits
from chat_worker.pipe_messages import LoadSpec
from tests.unit.chat_worker.openvino_models import N_NEW, greedy, on_openvino
from tests.unit.chat_worker.small_gguf import write_small_gguf

GUIDE = Path(__file__).parents[3] / "models" / "guide" / "qwen2-y26hkx-guide"
CONVERTS_HERE = pytest.mark.usefixtures("converts_here")
SMALL = {
    "vocab_size": 1024,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    # So large that texts lead to different tokens, as with a trained model.
    "initializer_range": 0.4,
}
LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "partial_rotary_factor": 0.5,
    "short_factor": [1.0, 1.5],
    "long_factor": [2.0, 8.0],
}
# Those of these kinds are outside of a small vocabulary.
ENDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, stretched": ("llama", {"rope_parameters": LLAMA_3, "attention_bias": True}),
    "llama, tied, one head each": (
        "llama",
        {"tie_word_embeddings": True, "num_key_value_heads": 4},
    ),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral, window": ("mistral", {"sliding_window": 24}),
    "qwen2": ("qwen2", {}),
    "qwen2, window in some layers": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1},
    ),
    "qwen3, wide heads": ("qwen3", {"head_dim": 16}),
    "smollm3, layers without positions": ("smollm3", {"no_rope_layer_interval": 2} | ENDS),
    "phi3, window": ("phi3", {"sliding_window": 24} | ENDS),
    "phi3, long, a part of each head": (
        "phi3",
        {"rope_parameters": LONG, "original_max_position_embeddings": 128} | ENDS,
    ),
    "gemma": ("gemma", {"head_dim": 16} | ENDS),
    "gemma, one head of keys": ("gemma", {"head_dim": 8, "num_key_value_heads": 1} | ENDS),
    "gemma3": (
        "gemma3_text",
        {
            "head_dim": 16,
            "sliding_window": 24,
            "sliding_window_pattern": 2,
            "query_pre_attn_scalar": 24,
        }
        | ENDS,
    ),
}


def make(folder: Path, tokenizer_from: Path, kind: str, **changed: Any) -> Path:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **(SMALL | changed))
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer_from / name, folder)
    return folder


def on_llama(path: Path) -> Backend:
    spec = LoadSpec(backend="llama.cpp", path=str(path), n_ctx=256, n_parallel=1)
    return load_gguf(spec, lambda fraction: None)


def plain_model(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@torch.inference_mode()
def plain_greedy(model: Any, tokens: list[int]) -> list[int]:
    found = list(tokens)
    for _ in range(N_NEW):
        found.append(int(model(torch.tensor([found])).logits[0, -1].argmax()))
    return found


@CONVERTS_HERE
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_text_in_float32_is_that_of_transformers(
    family: str, tiny_folder: Path, tmp_path: Path
) -> None:
    kind, changed = FAMILIES[family]
    folder = make(tmp_path / "model", tiny_folder, kind, **changed)
    runner, model = on_openvino(folder, tmp_path / "converted").runner, plain_model(folder)
    for seed in range(3):
        tokens = [int(t) for t in np.random.default_rng(seed).integers(2, 1000, 90 + seed)]
        assert greedy(runner, tokens) == plain_greedy(model, tokens)
    runner.close()


GGUF_FAMILIES: dict[str, dict[str, Any]] = {
    "llama, wide heads, stretched": {"head": 32, "stretch": "rope_freqs.weight"},
    "llama, tied": {"tied": True},
    "qwen2": {"kind": "qwen2"},
    "qwen3": {"kind": "qwen3"},
    "smollm3": {"kind": "smollm3", "n_layers": 5},
    "phi3": {"kind": "phi3"},
    "phi3, long": {
        "kind": "phi3",
        "stretch": "rope_factors_short.weight",
        "stated": {"rope.scaling.original_context_length": 256, "rope.scaling.attn_factor": 1.2},
    },
    "gemma": {"kind": "gemma", "head": 32, "tied": True},
    "gemma3": {
        "kind": "gemma3",
        "n_layers": 7,
        "tied": True,
        "stated": {"attention.sliding_window": 24},
    },
}


@pytest.mark.parametrize("family", GGUF_FAMILIES)
def test_logits_of_a_gguf_file_in_float32_are_those_of_llama_cpp(
    family: str, tmp_path: Path
) -> None:
    path = tmp_path / "small.gguf"
    write_small_gguf(path, **GGUF_FAMILIES[family])
    original = read_original(path)
    weights = DecoderWeights(original.tensors, bits=32, is_tied=original.is_tied)
    graph = decoder_graph(original.shape, weights)
    exact = compile_model(graph, "f32", "f16", n_threads=1)
    runner = OpenVinoRunner(exact, Limits(1, 1, 64, 64, 64, 64, TINY.n_vocab))
    # llama.cpp rounds the inputs of products with weights in F16 to F16.
    difference = np.abs(runner_logits(runner) - original.logits).mean()
    assert difference < 0.005 * original.logits.std()
    runner.close()


@CONVERTS_HERE
def test_greedy_text_of_a_gguf_file_is_that_of_llama_cpp(tmp_path: Path) -> None:
    path = GUIDE.with_suffix(".gguf")
    ours, theirs = on_openvino(path, tmp_path), on_llama(path)
    text = "<|im_start|>user\nWhat is Y26HKX?<|im_end|>\n<|im_start|>assistant\n"
    tokens = ours.tokenizer.encode(text, parse_control=True)
    assert tokens == theirs.tokenizer.encode(text, parse_control=True)
    assert (ours.template, ours.facts.n_ctx_train) == (theirs.template, theirs.facts.n_ctx_train)
    assert greedy(ours.runner, tokens) == greedy(theirs.runner, tokens)
    ours.runner.close()
    theirs.runner.close()


@pytest.mark.parametrize("label", ["Q8_0", "Q4_0", "Q4_K_M"])
def test_quantized_tensors_are_read_as_ggml_reads_them(
    label: str, tiny_gguf: Path, tmp_path: Path
) -> None:
    path = tmp_path / "quantized.gguf"
    quantize(tiny_gguf, path, label)
    name = "model.layers.1.mlp.down_proj.weight"
    tensors = GgufTensors(path)
    reader = gguf.GGUFReader(path)
    (expected,) = (t for t in reader.tensors if t.name == "blk.1.ffn_down.weight")
    plain = gguf.quants.dequantize(expected.data, expected.tensor_type)
    assert np.array_equal(tensors.read(name), plain)
    assert np.array_equal(tensors.read(name, slice(7, 20)), plain[7:20])
    assert "model.layers.2.mlp.down_proj.weight" not in tensors


def test_weights_in_4_bits_keep_the_values_of_a_file_in_q4_0(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    path = tmp_path / "quantized.gguf"
    quantize(tiny_gguf, path, "Q4_0")
    tensors = GgufTensors(path)
    weights = DecoderWeights(tensors, bits=4, is_tied=False)
    name = "model.layers.1.mlp.down_proj.weight"
    model = openvino.Model([openvino.opset13.result(weights.matrix(name))], [], "one matrix")
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    (found,) = openvino.compile_model(model, "CPU", exact)([]).values()
    assert np.array_equal(found, tensors.read(name))


@CONVERTS_HERE
def test_weights_in_8_bits_change_the_perplexity_by_less_than_a_hundredth(
    tmp_path: Path,
) -> None:
    windows = perplexity.windows_of(GUIDE, perplexity.conversations(), 512)[:20]
    expected = perplexity.in_transformers(GUIDE, torch.bfloat16, windows)
    for precision in ("int8", "bf16"):
        changed = {"precision": precision}
        found = perplexity.in_openvino(GUIDE, str(tmp_path), windows, changed)
        assert abs(found / expected - 1) < 0.01
