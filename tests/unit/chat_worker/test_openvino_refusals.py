"""Why a chat model is not run on OpenVINO: known before anything is converted."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from chat_worker.architectures import refusal_of, refusal_of_gguf
from chat_worker.conversions import unusable
from chat_worker.pipe_messages import LoadSpec
from tests.unit.chat_worker.small_gguf import write_small_gguf
from worker_runtime.machine.processor import Processor
from worker_runtime.model_files.gguf import GgufHeader


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


def test_an_adapter_is_a_reason(tiny_folder: Path, tmp_path: Path) -> None:
    spec = LoadSpec(
        backend="openvino", path=str(tiny_folder), converted_dir=str(tmp_path), lora="a.gguf"
    )
    assert "adapter" in unusable(spec)


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
