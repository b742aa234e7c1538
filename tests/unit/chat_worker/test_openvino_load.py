"""Chat models on OpenVINO: results as of transformers, conversions, refusals with reasons."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gguf
import numpy as np
import openvino
import pytest
import torch
from msgspec.structs import replace

from benchmarks import perplexity
from benchmarks.make_qwen_shape import TINY, add_vocabulary, quantize, train_tokenizer
from chat_worker.architectures import refusal_of, refusal_of_gguf
from chat_worker.backend import Backend
from chat_worker.backends.llama_cpp.load import load as load_gguf
from chat_worker.backends.openvino import compiled
from chat_worker.backends.openvino.compiled import compile_model
from chat_worker.backends.openvino.decoder_graph import decoder_graph
from chat_worker.backends.openvino.gguf_tensors import GgufTensors
from chat_worker.backends.openvino.load import load
from chat_worker.backends.openvino.original import read_original, runner_logits
from chat_worker.backends.openvino.runner import OpenVinoRunner
from chat_worker.backends.openvino.weights import DecoderWeights
from chat_worker.conversions import CONVERSIONS, GRAPH, WEIGHTS, folder_for, unusable
from chat_worker.discovery import ChatModelScan
from chat_worker.engine.runner import Limits, ModelRunner, ScheduledTokens, TruncateSlot
from chat_worker.engine.sampling import Sampler, SamplingParams
from chat_worker.engine.sequence import Sequence
from chat_worker.load_options import ChatLoadOptions
from chat_worker.pipe_messages import LoadSpec
from chat_worker.settings import ChatSettings
from common.errors import BackendLoadFailed
from worker_runtime import libraries
from worker_runtime.libraries import Libraries
from worker_runtime.lifecycle.load_options import LoadOption
from worker_runtime.machine.processor import Processor
from worker_runtime.model_files.gguf import GgufHeader

GUIDE = Path(__file__).parents[3] / "models" / "guide" / "qwen2-y26hkx-guide"
QUESTIONS = GUIDE.parent / "data"
CONVERTS_HERE = pytest.mark.usefixtures("converts_here")
N_NEW = 24
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


HIDDEN, HEADS, KV_HEADS, FFN = 64, 4, 2, 96


def layer_tensors(kind: str, head: int) -> dict[str, tuple[int, ...]]:
    """The sizes of the tensors of one layer."""
    counts = {"q": HEADS, "k": KV_HEADS, "v": KV_HEADS}
    found: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (HIDDEN,),
        "ffn_norm.weight": (HIDDEN,),
        "attn_output.weight": (HIDDEN, HEADS * head),
        "ffn_down.weight": (HIDDEN, FFN),
    }
    if kind == "phi3":
        return found | {
            "attn_qkv.weight": (sum(counts.values()) * head, HIDDEN),
            "ffn_up.weight": (2 * FFN, HIDDEN),
        }
    found |= {"ffn_gate.weight": (FFN, HIDDEN), "ffn_up.weight": (FFN, HIDDEN)}
    found |= {f"attn_{part}.weight": (n * head, HIDDEN) for part, n in counts.items()}
    if kind in ("llama", "qwen2"):
        found |= {f"attn_{part}.bias": (n * head,) for part, n in counts.items()}
    if kind in ("qwen3", "gemma3"):
        found |= {f"attn_{part}_norm.weight": (head,) for part in "qk"}
    if kind == "gemma3":
        found |= {f"{name}.weight": (HIDDEN,) for name in ("post_attention_norm", "post_ffw_norm")}
    return found


def write_small_gguf(
    path: Path,
    *,
    kind: str = "llama",
    head: int = 16,
    n_layers: int = 2,
    tied: bool = False,
    stretch: str = "",
    stated: Mapping[str, float | str] = MappingProxyType({}),
) -> None:
    """A decided model of random weights, in the order of rows that llama.cpp expects.

    Args:
        stretch: the name of a tensor that stretches the rotary positions.
        stated: more values of the header, by their names without the kind.
    """
    random = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, kind)
    writer.add_block_count(n_layers)
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(50_000.0)
    writes = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    for name, value in stated.items():
        writes[type(value)](f"{kind}.{name}", value)
    add_vocabulary(writer, train_tokenizer(TINY), TINY.n_vocab)

    def add(name: str, *sizes: int, at: float = 0.0) -> None:
        values = random.standard_normal(sizes, np.float32) * np.float32(0.3) + np.float32(at)
        writer.add_tensor(name, values.astype(np.float16) if len(sizes) > 1 else values)

    add("token_embd.weight", TINY.n_vocab, HIDDEN)
    add("output_norm.weight", HIDDEN, at=1.0)
    if not tied:
        add("output.weight", TINY.n_vocab, HIDDEN)
    if stretch:
        writer.add_tensor(stretch, np.linspace(1, 8, head // 2, dtype=np.float32))
    for layer in range(n_layers):
        for name, sizes in layer_tensors(kind, head).items():
            add(f"blk.{layer}.{name}", *sizes, at=float(name.endswith("norm.weight")))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file(progress=False)
    writer.close()


def on_openvino(folder: Path, converted: Path, **changed: Any) -> Backend:
    plain: dict[str, Any] = {"backend": "openvino", "path": str(folder), "precision": "f32"}
    spec = LoadSpec(**(plain | {"n_ctx": 256, "converted_dir": str(converted)} | changed))
    return load(spec, lambda fraction, stage: None)


def on_llama(path: Path) -> Backend:
    spec = LoadSpec(backend="llama.cpp", path=str(path), n_ctx=256, n_parallel=1)
    return load_gguf(spec, lambda fraction: None)


def item(tokens: list[int], start: int, n_rows: int) -> ScheduledTokens:
    sampler = Sampler(SamplingParams(), [])
    sequence = Sequence(call_id=0, choice=0, tokens=tokens, limit=512, sampler=sampler)
    return ScheduledTokens(sequence, 0, start, len(tokens) - start, n_rows)


def greedy(runner: ModelRunner, tokens: list[int]) -> list[int]:
    found, n_held = list(tokens), 0
    for _ in range(N_NEW):
        row = runner.run([item(found, n_held, 1)])[0]
        n_held = len(found)
        found.append(int(row.argmax()))
    runner.apply(TruncateSlot(0, 0))
    return found


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
def test_a_damaged_conversion_is_made_again(tiny_folder: Path, tmp_path: Path) -> None:
    on_openvino(tiny_folder, tmp_path).runner.close()
    (kept,) = folder_for(str(tmp_path), 32).glob("[!.]*")
    whole = (kept / GRAPH).read_text("utf-8")
    (kept / GRAPH).write_text(whole[:1000], "utf-8")
    on_openvino(tiny_folder, tmp_path).runner.close()
    again = (kept / GRAPH).read_text("utf-8")
    # OpenVINO numbers the nodes of all graphs that a process makes.
    assert re.sub(r"_\d+", "", again) == re.sub(r"_\d+", "", whole)


def test_a_folder_in_openvino_s_own_format_needs_no_conversion(
    tiny_folder: Path, converted_dir: Path, tmp_path: Path
) -> None:
    expected = greedy(on_openvino(tiny_folder, converted_dir).runner, [5, 6, 7])
    (kept,) = folder_for(str(converted_dir), 32).glob("tiny-*")
    folder = tmp_path / "as-on-a-hub"
    shutil.copytree(kept, folder)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_folder / name, folder)
    (entry,) = scan(tmp_path).entries
    assert (entry.backend, entry.broken) == ("openvino", "")
    assert entry.size_bytes >= (folder / WEIGHTS).stat().st_size
    backend = on_openvino(folder, tmp_path / "unused")
    assert greedy(backend.runner, [5, 6, 7]) == expected
    assert not (tmp_path / "unused").exists()


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


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"model_type": "gpt2"}, "models of its kind"),
        ({"layer_types": ["chunked_attention"]}, "attention"),
        ({"attn_logit_softcapping": 50.0}, "parts"),
        ({"num_hidden_layers": 1 << 40}, "num_hidden_layers"),
        ({"max_position_embeddings": "long"}, "max_position_embeddings"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rotary"),
        ({"quantization_config": {}}, "quantized already"),
        ({"hidden_act": "gelu"}, "activation"),
    ],
)
def test_what_is_not_converted_is_known_from_its_configuration(
    changed: dict[str, Any], reason: str
) -> None:
    plain = {"model_type": "qwen2", "max_position_embeddings": 256}
    assert refusal_of(plain) == ""
    assert reason in refusal_of(plain | changed)


def test_a_processor_without_avx2_is_a_reason(tiny_folder: Path, tmp_path: Path) -> None:
    spec = LoadSpec(backend="openvino", path=str(tiny_folder), converted_dir=str(tmp_path))
    assert unusable(spec, Processor("old", ("avx", "sse2"))) == "the processor has no AVX2"
    assert unusable(spec, Processor("newer", ("avx", "avx2", "sse2"))) == ""


def test_a_context_that_needs_other_rotary_positions_is_a_reason(tmp_path: Path) -> None:
    write_small_gguf(
        tmp_path / "long.gguf",
        kind="phi3",
        stretch="rope_factors_short.weight",
        stated={
            "rope.scaling.original_context_length": 128,
            "rope.scaling.type": "longrope",
        },
    )
    spec = LoadSpec(backend="openvino", path=str(tmp_path / "long.gguf"), converted_dir="none")
    assert unusable(replace(spec, n_ctx=128)) == ""
    assert "beyond 128 tokens" in unusable(replace(spec, n_ctx=256))


@pytest.mark.parametrize(
    ("feature", "kind"), [("amx_bf16", "bf16"), ("avx512_bf16", "bf16"), ("avx512f", "f32")]
)
def test_bfloat16_is_chosen_where_the_processor_has_instructions_for_it(
    feature: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "read_processor", lambda: Processor("one", (feature,)))
    found = compiled.properties("auto", "f16", n_threads=0)
    assert found["INFERENCE_PRECISION_HINT"] == kind


def test_an_adapter_is_a_reason(tiny_folder: Path, tmp_path: Path) -> None:
    spec = LoadSpec(
        backend="openvino", path=str(tiny_folder), converted_dir=str(tmp_path), lora="a.gguf"
    )
    assert "adapter" in unusable(spec)


def scan(models_dir: Path, **changed: Any) -> Any:
    return ChatModelScan(settings(models_dir, **changed))()


def settings(models_dir: Path, **changed: Any) -> ChatSettings:
    plain: dict[str, Any] = {
        "models_dir": models_dir,
        "model_path": models_dir / "none",
        "builtin_models": False,
        "converted_dir": models_dir / "converted",
        "_env_file": None,
    }
    return ChatSettings(**(plain | changed))


def options_of(models_dir: Path) -> list[LoadOption]:
    chosen = settings(models_dir, backend="openvino")
    found = ChatModelScan(chosen)
    (entry,) = found().entries
    return list(ChatLoadOptions(found, chosen)(entry))


def test_a_model_is_loaded_by_openvino_else_by_transformers_with_the_reason(
    tiny_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_folder, tmp_path / "tiny")
    first, *others = options_of(tmp_path)
    assert (first.entry.backend, first.reductions) == ("openvino", ())
    assert first.need.converting > 0
    instead = next(option for option in others if option.entry.backend == "transformers")
    assert instead.reductions[0] == "on transformers, not OpenVINO: it could not be loaded there"


def test_a_model_that_is_not_converted_is_loaded_by_transformers_at_once(
    tiny_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "gelu"}))
    options = options_of(tmp_path)
    assert {option.entry.backend for option in options} == {"transformers"}
    assert "activation function" in options[0].reductions[0]


def test_a_conversion_that_was_refused_is_not_tried_again(
    tiny_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))
    cache = folder_for(str(tmp_path / "converted"), 8)
    (cache / "tiny-0").mkdir(parents=True)
    CONVERSIONS.write(cache / "tiny-0", CONVERSIONS.refused(folder, "its form differs"))
    assert "its form differs" in options_of(tmp_path)[0].reductions[0]


def test_a_damaged_graph_is_an_error_with_a_way_forward(tiny_folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_folder / name, tmp_path)
    (tmp_path / GRAPH).write_text("<net")
    (tmp_path / WEIGHTS).write_bytes(bytes(64))
    with pytest.raises(BackendLoadFailed, match="does not run on OpenVINO") as raised:
        on_openvino(tmp_path, tmp_path)
    assert raised.value.suggestions


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"general.architecture": "gemma2"}, "models of its kind"),
        ({"llama.expert_count": 8}, "models of its kind"),
        ({"llama.rope.scaling.type": "yarn"}, "rotary"),
        ({"llama.rope.dimension_count": 8}, "rotary"),
        ({"llama.attention.head_count": [4, 8]}, "heads"),
        ({"llama.attention.value_length": 8}, "width"),
        ({"llama.attention.sliding_window": 128}, "window"),
    ],
)
def test_what_is_not_converted_is_known_from_the_header_of_a_gguf_file(
    changed: dict[str, Any], reason: str
) -> None:
    plain: dict[str, Any] = {
        "general.architecture": "llama",
        "llama.embedding_length": 64,
        "llama.attention.head_count": 4,
    }
    assert refusal_of_gguf(GgufHeader(3, plain, {}, [], "")) == ""
    assert reason in refusal_of_gguf(GgufHeader(3, plain | changed, {}, [], ""))


def test_a_gguf_file_is_loaded_by_openvino_else_by_llama_cpp_with_the_reason(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    shutil.copy(tiny_gguf, tmp_path)
    first, *others = options_of(tmp_path)
    assert (first.entry.backend, first.reductions) == ("openvino", ())
    assert first.need.converting > 0
    instead = next(option for option in others if option.entry.backend == "llama.cpp")
    assert instead.reductions[0] == "on llama.cpp, not OpenVINO: it could not be loaded there"


def test_without_openvino_models_run_on_the_backend_of_their_format_with_the_reason(
    tiny_gguf: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(tiny_gguf, tmp_path / "file.gguf")
    shutil.copytree(tiny_folder, tmp_path / "folder")
    missing = Libraries(("no_such_module",), "openvino")
    monkeypatch.setitem(libraries.OF_BACKENDS, "openvino", missing)
    chosen = settings(tmp_path, backend="openvino")
    found = ChatModelScan(chosen)
    entries = {entry.id: entry for entry in found().entries}
    assert {entry.broken for entry in entries.values()} == {""}
    for name, backend in (("file", "llama.cpp"), ("folder", "transformers")):
        first = ChatLoadOptions(found, chosen)(entries[name])[0]
        assert first.entry.backend == backend
        assert first.reductions[0].endswith("not OpenVINO: OpenVINO is not installed")


def test_a_device_that_openvino_does_not_list_is_an_error_with_those_that_it_does(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    with pytest.raises(BackendLoadFailed, match=r"no device 'GPU.7'.*CPU"):
        on_openvino(tiny_gguf, tmp_path, device="GPU.7")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("module", ["load", "convert"])
def test_openvino_s_telemetry_is_never_imported(module: str, tmp_path: Path) -> None:
    (tmp_path / "openvino_telemetry.py").write_text("raise SystemExit('telemetry is imported')")
    command = [sys.executable, "-c", f"import chat_worker.backends.openvino.{module}"]
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])
    subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, check=True, timeout=120)  # noqa: TID251 -- a test passes its own environment on
