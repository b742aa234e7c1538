"""The sizes and rotary frequencies of a decoder, from its `config.json` or its GGUF header.

Sources: transformers' `modeling_rope_utils.py`, and llama.cpp's `llama-model.cpp` for the defaults
of headers.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from chat_worker.backends.openvino.decoder_graph import DecoderShape, Floats
from chat_worker.conversions import head_of, refusal_of, refusal_of_gguf, rope
from worker_runtime.conversion.cache import NotConvertible
from worker_runtime.model_files.gguf import GgufHeader


def shape_of(config: Mapping[str, Any]) -> DecoderShape:
    """Raises NotConvertible if the graph of this kind of model is not known."""
    if reason := refusal_of(config):
        raise NotConvertible(reason)
    n_heads = int(config["num_attention_heads"])
    head = int(config.get("head_dim") or config["hidden_size"] // n_heads)
    return DecoderShape(
        n_layers=int(config["num_hidden_layers"]),
        n_heads=n_heads,
        n_kv_heads=int(config.get("num_key_value_heads") or n_heads),
        head=head,
        epsilon=float(config.get("rms_norm_eps", 1e-6)),
        frequencies=_frequencies(rope(config), head),
    )


def shape_of_gguf(header: GgufHeader, stretch: Floats | None) -> DecoderShape:
    """
    Args:
        stretch: divides the frequencies, (head / 2,): Llama 3.1's files hold such a tensor.
    Raises:
        NotConvertible: the graph of this kind of model is not known.
    """
    if reason := refusal_of_gguf(header):
        raise NotConvertible(reason)

    def stated(key: str, default: Any = None) -> Any:
        value = header.metadata.get(f"{header.architecture}.{key}", default)
        if not isinstance(value, (int, float)):
            raise NotConvertible(f"its header has no single number {key}")
        return value

    head, n_heads = head_of(header), stated("attention.head_count")
    parameters = {
        "rope_type": "linear",
        "rope_theta": float(stated("rope.freq_base", 10_000.0)),
        "factor": float(stated("rope.scaling.factor", 1.0)) or 1.0,
    }
    frequencies = _frequencies(parameters, head)
    return DecoderShape(
        n_layers=stated("block_count"),
        n_heads=n_heads,
        n_kv_heads=stated("attention.head_count_kv", n_heads),
        head=head,
        epsilon=float(stated("attention.layer_norm_rms_epsilon")),
        frequencies=frequencies if stretch is None else frequencies / stretch,
    )


def _frequencies(parameters: Mapping[str, Any], head: int) -> Floats:
    """Radians per token, (head / 2,)."""
    plain = parameters["rope_theta"] ** -(np.arange(0, head, 2, dtype=np.float64) / head)
    match parameters["rope_type"]:
        case "linear":
            plain = plain / parameters["factor"]
        case "llama3":
            plain = _stretched(plain, parameters)
    frequencies: Floats = plain.astype(np.float32)
    return frequencies


def _stretched(plain: Any, parameters: Mapping[str, Any]) -> Any:
    """Llama 3.1's: slow rotations by the factor, fast ones not at all, and a transition between."""
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
    n_turns = parameters["original_max_position_embeddings"] * plain / (2 * math.pi)
    share = np.clip((n_turns - low) / (high - low), 0, 1)
    return plain * (share + (1 - share) / parameters["factor"])
