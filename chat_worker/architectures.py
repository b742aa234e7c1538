"""The kinds of models whose graph `backends/openvino/decoder_graph.py` builds, and how each differs
from Llama.

The worker reads this too, so it imports neither OpenVINO nor numpy. Sources: transformers'
`configuration_*.py` and `modeling_*.py` of each kind, llama.cpp's `llama-model.cpp` and
`convert_hf_to_gguf.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from worker_runtime.model_files.gguf import GgufHeader

FULL, WINDOWED = "full_attention", "sliding_attention"
ACTIVATIONS = frozenset({"silu", "gelu_pytorch_tanh"})
ROPE_TYPES = frozenset({"default", "linear", "llama3", "longrope"})
GGUF_ROPE_TYPES = frozenset({"none", "linear", "longrope"})
ROPE_KEYS = ("rope_parameters", "rope_scaling")
# Counts in a configuration, which anybody may have written, and the largest of real models.
COUNTS = {
    "num_hidden_layers": 1 << 12,
    "sliding_window_pattern": 1 << 12,
    "no_rope_layer_interval": 1 << 12,
    "max_window_layers": 1 << 12,
    "max_position_embeddings": 1 << 28,
    "original_max_position_embeddings": 1 << 28,
}
# Settings of layers that the graph does not have.
UNKNOWN_LAYERS = (
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "use_bidirectional_attention",
)


@dataclass(frozen=True)
class Architecture:
    """How a kind of model differs from Llama; biases, further norms and merged matrices are seen
    from its tensors.

    Args:
        gguf: its name in GGUF files.
        gguf_names: parts of a layer that are named otherwise there than in Llama's files.
        is_reordered: llama.cpp's files have the rows of queries and keys in another order.
        has_window_switch: a window that its configuration lists counts only with
            `use_sliding_window`.
        gguf_has_window: so does one of a GGUF header, without a switch.
        window_pattern: one layer of so many attends over all tokens; 0: a window is for all layers.
        rotation_pattern: one layer of so many has no rotary positions; 0: none.
        rope_base: where the configuration or the header does not name it.
        local_rope_base: of layers with a window; 0: that of the others, with its scaling.
        activation: where the configuration or the header does not name it.
        is_scaled: embeddings are multiplied by the root of their width.
        norm_offset: of the norms' weights in a folder; in GGUF files it is added to them.
    """

    gguf: str
    gguf_names: Mapping[str, str] = field(default_factory=dict)
    is_reordered: bool = False
    has_window_switch: bool = False
    gguf_has_window: bool = False
    window_pattern: int = 0
    rotation_pattern: int = 0
    rope_base: float = 10_000.0
    local_rope_base: float = 0.0
    activation: str = "silu"
    is_scaled: bool = False
    norm_offset: float = 0.0


LLAMA = Architecture("llama", is_reordered=True)
# By the name that transformers gives them; GGUF files with the same name have the first one's form.
ARCHITECTURES: dict[str, Architecture] = {
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": Architecture("qwen2", has_window_switch=True),
    "qwen3": Architecture("qwen3", has_window_switch=True),
    "smollm3": Architecture(
        "smollm3",
        is_reordered=True,
        has_window_switch=True,
        rotation_pattern=4,
        rope_base=2_000_000.0,
    ),
    "phi3": Architecture(
        "phi3",
        {"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"},
        gguf_has_window=True,
    ),
    "gemma": Architecture("gemma", activation="gelu_pytorch_tanh", is_scaled=True, norm_offset=1.0),
    "gemma3_text": Architecture(
        "gemma3",
        {
            "post_attention_layernorm": "post_attention_norm",
            "pre_feedforward_layernorm": "ffn_norm",
            "post_feedforward_layernorm": "post_ffw_norm",
        },
        gguf_has_window=True,
        window_pattern=6,
        rope_base=1_000_000.0,
        local_rope_base=10_000.0,
        activation="gelu_pytorch_tanh",
        is_scaled=True,
        norm_offset=1.0,
    ),
}


def architecture_of(header: GgufHeader) -> Architecture | None:
    """That of a GGUF file; None if its graph is not known."""
    found = (each for each in ARCHITECTURES.values() if each.gguf == header.architecture)
    return next(found, None)


def refusal_of(config: Mapping[str, Any]) -> str:
    """Why a model with this `config.json` cannot be converted; empty if it can."""
    kind = str(config.get("model_type"))
    if kind not in ARCHITECTURES:
        return "models of its kind are not converted"
    for key, most in COUNTS.items():
        if not _is_count(config.get(key), most):
            return f"its configuration has no valid {key}"
    if "quantization_config" in config:
        return "its weights are quantized already"
    if activation_of(config) not in ACTIVATIONS:
        return "its activation function is not converted"
    if any(config.get(key) for key in UNKNOWN_LAYERS):
        return "its layers have parts that are not converted"
    layers = set(layer_types(config))
    if layers - {FULL, WINDOWED}:
        return "its attention is of another type"
    if {str(rope(config, layer)["rope_type"]) for layer in layers} - ROPE_TYPES:
        return "its rotary positions are of another type"
    return ""


def refusal_of_gguf(header: GgufHeader) -> str:
    """Why a model with this header of its first file cannot be converted; empty if it can."""
    kind, stated = header.architecture, header.metadata
    known = architecture_of(header)
    if known is None or stated.get(f"{kind}.expert_count"):
        return "models of its kind are not converted"
    if stated.get(f"{kind}.rope.scaling.type", "none") not in GGUF_ROPE_TYPES:
        return "its rotary positions are of another type"
    head = head_of(header)
    if not head:
        return "its heads differ in width"
    # llama.cpp's order of the rows is that of whole heads.
    if known.is_reordered and stated.get(f"{kind}.rope.dimension_count", head) != head:
        return "its rotary positions cover a part of a head"
    if stated.get(f"{kind}.attention.value_length", head) != head:
        return "its keys and values differ in width"
    has_window = stated.get(f"{kind}.attention.sliding_window")
    return "its attention has a window" if has_window and not known.gguf_has_window else ""


def longest_context(config: Mapping[str, Any]) -> int:
    """The tokens beyond which a model with this `config.json` would need other rotary positions;
    0: none."""
    return original_context(config) if rope(config)["rope_type"] == "longrope" else 0


def longest_context_of_gguf(header: GgufHeader) -> int:
    """As `longest_context`, by the header of a GGUF file."""
    kind, stated = header.architecture, header.metadata
    if stated.get(f"{kind}.rope.scaling.type") != "longrope":
        return 0
    found = stated.get(f"{kind}.rope.scaling.original_context_length")
    return found if isinstance(found, int) else 0


def original_context(config: Mapping[str, Any]) -> int:
    """The context for which the rotary positions were made before they were stretched."""
    key = "original_max_position_embeddings"
    return int(rope(config).get(key) or config.get(key) or config.get("max_position_embeddings", 0))


def activation_of(config: Mapping[str, Any]) -> str:
    usual = ARCHITECTURES[str(config.get("model_type"))].activation
    named = config.get("hidden_activation") or config.get("hidden_act", usual)
    # Gemma's first files mean its approximation.
    return usual if named == "gelu" and usual.startswith("gelu") else str(named)


def head_of(header: GgufHeader) -> int:
    """The width of an attention head in a GGUF file; 0 if it is not one number."""
    kind, stated = header.architecture, header.metadata
    width, n_heads = (
        stated.get(f"{kind}.{key}") for key in ("embedding_length", "attention.head_count")
    )
    usual = width // n_heads if isinstance(width, int) and isinstance(n_heads, int) else 0
    found = stated.get(f"{kind}.attention.key_length", usual)
    return found if isinstance(found, int) else 0


def rope(config: Mapping[str, Any], layer: str = FULL) -> dict[str, Any]:
    """The parameters of the rotary positions in layers of the type `layer`, which older files store
    in other places."""
    known = ARCHITECTURES[str(config.get("model_type"))]
    found: dict[str, Any] = {
        "rope_theta": config.get("rope_theta", known.rope_base),
        "partial_rotary_factor": config.get("partial_rotary_factor", 1.0),
    }
    stated = [config[key] for key in ROPE_KEYS if isinstance(config.get(key), dict)]
    if known.local_rope_base and layer == WINDOWED:
        found["rope_theta"] = config.get("rope_local_base_freq", known.local_rope_base)
        stated = [each for each in stated if layer in each]
    for each in stated:
        found |= each.get(layer, each)
    found.setdefault("rope_type", found.get("type", "default"))
    # Names that Phi's first files used.
    if config.get("model_type") == "phi3" and found["rope_type"] in ("su", "yarn"):
        found["rope_type"] = "longrope"
    return found


def layer_types(config: Mapping[str, Any]) -> list[str]:
    """`FULL` or `WINDOWED` for each layer, or another type that the configuration names."""
    known = ARCHITECTURES[str(config.get("model_type"))]
    n_layers = int(config.get("num_hidden_layers") or 1)
    listed = config.get("layer_types")
    if isinstance(listed, list):
        return [str(layer) for layer in listed]
    if known.window_pattern:
        pattern = int(config.get("sliding_window_pattern") or known.window_pattern)
        return patterned(n_layers, pattern)
    first = 0
    if known.has_window_switch:
        stated = config.get("max_window_layers")
        # SmolLM's windows are for some layers, which are listed.
        is_on = config.get("use_sliding_window") and not known.rotation_pattern
        first = int(stated) if is_on and stated is not None else n_layers
    return [WINDOWED if window_of(config) and layer >= first else FULL for layer in range(n_layers)]


def patterned(n_layers: int, pattern: int) -> list[str]:
    """The last layer of each `pattern` attends over all tokens, the others over a window."""
    return [FULL if not (layer + 1) % pattern else WINDOWED for layer in range(n_layers)]


def window_of(config: Mapping[str, Any]) -> int:
    """The tokens that a layer with a window attends over; 0: all."""
    window, longest = config.get("sliding_window"), config.get("max_position_embeddings")
    is_shorter = isinstance(window, int) and not (isinstance(longest, int) and window >= longest)
    return int(window or 0) if is_shorter else 0


def rotates(config: Mapping[str, Any]) -> list[bool]:
    """Whether each layer has rotary positions."""
    known = ARCHITECTURES[str(config.get("model_type"))]
    n_layers = int(config.get("num_hidden_layers") or 1)
    if not known.rotation_pattern:
        return rotation_pattern(n_layers, 0)
    listed = config.get("no_rope_layers")
    if isinstance(listed, list):
        return [bool(layer) for layer in listed]
    pattern = int(config.get("no_rope_layer_interval") or known.rotation_pattern)
    return rotation_pattern(n_layers, pattern)


def rotation_pattern(n_layers: int, pattern: int) -> list[bool]:
    """The last layer of each `pattern` has no rotary positions; 0: all have."""
    return [not pattern or bool((layer + 1) % pattern) for layer in range(n_layers)]


def _is_count(value: object, most: int) -> bool:
    return value is None or (isinstance(value, int) and 0 <= value <= most)
