"""The sizes and rotary frequencies of a decoder, from its `config.json` or its GGUF header.

Sources: transformers' `modeling_rope_utils.py`, and llama.cpp's `llama-model.cpp` for the defaults
of headers.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from chat_worker.architectures import (
    ARCHITECTURES,
    FULL,
    WINDOWED,
    Architecture,
    activation_of,
    architecture_of,
    head_of,
    layer_types,
    original_context,
    patterned,
    refusal_of,
    refusal_of_gguf,
    rope,
    rotates,
    rotation_pattern,
    window_of,
)
from chat_worker.backends.openvino.decoder_graph import Attention, DecoderShape, Floats
from worker_runtime.conversion.cache import NotConvertible
from worker_runtime.model_files.gguf import GgufHeader

# Gemma 3's largest model scales queries by its width, and not by that of a head.
WIDE_GEMMA3_LAYERS = 62


def shape_of(config: Mapping[str, Any]) -> DecoderShape:
    """Raises NotConvertible if the graph of this kind of model is not known."""
    if reason := refusal_of(config):
        raise NotConvertible(reason)
    known = ARCHITECTURES[config["model_type"]]
    n_heads = int(config["num_attention_heads"])
    head = int(config.get("head_dim") or config["hidden_size"] // n_heads)
    types = layer_types(config)
    kinds = {each: _attention(config, each, head) for each in set(types)}
    return DecoderShape(
        n_heads=n_heads,
        n_kv_heads=int(config.get("num_key_value_heads") or n_heads),
        head=head,
        epsilon=float(config.get("rms_norm_eps", 1e-6)),
        layers=_layers([kinds[each] for each in types], rotates(config)),
        activation=activation_of(config),
        query_scale=float(config.get("query_pre_attn_scalar") or head) ** -0.5,
        embedding_scale=_embedding_scale(known.is_scaled, config["hidden_size"]),
        norm_offset=known.norm_offset,
    )


def shape_of_gguf(header: GgufHeader, stretch: Floats | None) -> DecoderShape:
    """
    Args:
        stretch: divides the frequencies, (rotated / 2,): files of Llama 3.1 and Phi 3.5 hold such
            a tensor.
    Raises:
        NotConvertible: the graph of this kind of model is not known.
    """
    known = architecture_of(header)
    if (reason := refusal_of_gguf(header)) or known is None:
        raise NotConvertible(reason)
    head, n_layers = head_of(header), _stated(header, "block_count")
    n_heads, hidden = _stated(header, "attention.head_count"), _stated(header, "embedding_length")
    is_wide = known.local_rope_base and n_layers == WIDE_GEMMA3_LAYERS
    return DecoderShape(
        n_heads=n_heads,
        n_kv_heads=_stated(header, "attention.head_count_kv", n_heads),
        head=head,
        epsilon=float(_stated(header, "attention.layer_norm_rms_epsilon")),
        layers=_layers(
            _attention_of_gguf(header, known, n_layers, stretch),
            rotation_pattern(n_layers, known.rotation_pattern),
        ),
        activation=known.activation,
        query_scale=float(hidden / n_heads if is_wide else head) ** -0.5,
        embedding_scale=_embedding_scale(known.is_scaled, hidden),
    )


def _stated(header: GgufHeader, key: str, default: Any = None) -> Any:
    """A number of the header.

    Raises:
        NotConvertible: it is missing, or differs by layer.
    """
    value = header.metadata.get(f"{header.architecture}.{key}", default)
    if not isinstance(value, (int, float)):
        raise NotConvertible(f"its header has no single number {key}")
    return value


def _attention_of_gguf(
    header: GgufHeader, known: Architecture, n_layers: int, stretch: Floats | None
) -> list[Attention]:
    """That of each layer."""
    parameters = {
        "rope_type": "linear",
        "rope_theta": float(_stated(header, "rope.freq_base", known.rope_base)),
        "factor": float(_stated(header, "rope.scaling.factor", 1.0)) or 1.0,
    }
    n_rotated = _stated(header, "rope.dimension_count", head_of(header))
    plain = frequencies(parameters, n_rotated)
    full = Attention(
        plain if stretch is None else plain / stretch,
        rotation_scale=float(_stated(header, "rope.scaling.attn_factor", 1.0)),
    )
    window = _stated(header, "attention.sliding_window", 0)
    windowed = replace(full, window=window)
    if known.local_rope_base:
        local = {"rope_type": "default", "rope_theta": known.local_rope_base}
        windowed = Attention(frequencies(local, n_rotated), window)
    kinds = {FULL: full, WINDOWED: windowed}
    if known.window_pattern:
        return [kinds[each] for each in patterned(n_layers, known.window_pattern)]
    return [windowed if window else full] * n_layers


def _attention(config: Mapping[str, Any], layer: str, head: int) -> Attention:
    """That of the layers of a type."""
    parameters = rope(config, layer)
    n_rotated = int(head * parameters["partial_rotary_factor"])
    window = window_of(config) if layer == WINDOWED else 0
    return Attention(
        frequencies(parameters, n_rotated), window, _rotation_scale(config, parameters)
    )


def _rotation_scale(config: Mapping[str, Any], parameters: Mapping[str, Any]) -> float:
    if parameters["rope_type"] != "longrope":
        return 1.0
    if stated := parameters.get("attention_factor"):
        return float(stated)
    original = original_context(config)
    factor = config["max_position_embeddings"] / original
    return math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0


def _layers(kinds: list[Attention], rotated: list[bool]) -> tuple[Attention, ...]:
    """The layers; those that are alike are the same object, which the graph then computes once."""
    still = {id(kind): Attention(None, kind.window) for kind in kinds}
    return tuple(
        kind if is_rotated else still[id(kind)]
        for kind, is_rotated in zip(kinds, rotated, strict=True)
    )


def _embedding_scale(is_scaled: bool, hidden: int) -> float:
    return math.sqrt(hidden) if is_scaled else 1.0


def frequencies(parameters: Mapping[str, Any], n_rotated: int) -> Floats:
    """Radians per token, (n_rotated / 2,)."""
    steps = np.arange(0, n_rotated, 2, dtype=np.float64) / n_rotated
    plain = parameters["rope_theta"] ** -steps
    match parameters["rope_type"]:
        case "linear":
            plain = plain / parameters["factor"]
        case "longrope":
            plain = plain / np.array(parameters["short_factor"])
        case "llama3":
            plain = _stretched(plain, parameters)
    found: Floats = plain.astype(np.float32)
    return found


def _stretched(plain: Any, parameters: Mapping[str, Any]) -> Any:
    """Llama 3.1's: slow rotations by the factor, fast ones not at all, and a transition between."""
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
    n_turns = parameters["original_max_position_embeddings"] * plain / (2 * math.pi)
    share = np.clip((n_turns - low) / (high - low), 0, 1)
    return plain * (share + (1 - share) / parameters["factor"])
