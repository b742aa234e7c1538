"""Which chat models OpenVINO can run, by their headers, and where their converted forms are kept.

The worker reads this too, so it imports neither OpenVINO nor numpy.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from chat_worker.pipe_messages import LoadSpec
from worker_runtime.conversion import cache
from worker_runtime.conversion.cache import Conversions
from worker_runtime.libraries import missing_modules
from worker_runtime.machine.processor import Processor, read_processor
from worker_runtime.model_files.folders import is_openvino_folder
from worker_runtime.model_files.gguf import GgufHeader, read_gguf_header
from worker_runtime.model_files.odd_paths import path_of
from worker_runtime.model_files.small_json import read_object

Precision = Literal["auto", "f32", "bf16", "int8"]
# The kinds of models whose graph `decoder_graph` builds.
KINDS = frozenset({"llama", "mistral", "qwen2", "qwen3"})
# Qwen's configuration lists a window even if it is not used; Mistral's has no such switch.
WINDOW_BY_SWITCH = frozenset({"qwen2", "qwen3"})
ROPE_TYPES = frozenset({"default", "linear", "llama3"})
# The architectures in GGUF files of the same graph. llama.cpp reorders the rows of queries and keys
# of Llama, which Mistral's files name too.
GGUF_KINDS = frozenset({"llama", "qwen2", "qwen3"})
REORDERED = frozenset({"llama"})
GGUF_ROPE_TYPES = frozenset({"none", "linear"})
VERSION = 1
# By the bits of a weight; exact weights are stored apart from rounded ones.
FOLDERS: dict[int, str] = {32: "chat-f32", 8: "chat-int8", 4: "chat-int4"}
GRAPH = "openvino_model.xml"
WEIGHTS = "openvino_model.bin"
TRANSFORMERS_KEYS = ("rope_parameters", "rope_scaling")


class Record(cache.Record, kw_only=True):
    """What is stored about a converted chat model.

    Args:
        difference: the mean difference of its logits to those of its own library, as a part of
            their spread.
    """

    # JSON has no number for one that is not known.
    difference: float | None = None


CONVERSIONS = Conversions(
    kind=Record,
    record="decoder.json",
    module="chat_worker.backends.openvino.convert",
    version=VERSION,
    libraries=("openvino",),
    sources=("*.safetensors", "config.json"),
    files=(GRAPH, WEIGHTS),
    weights=WEIGHTS,
    # The weights exist twice while they are written, in float32 at most.
    spare_disk=4.5,
)


def weight_bits(spec: LoadSpec) -> int:
    """The bits of a weight in the converted form that `spec` loads."""
    return 32 if spec.precision == "f32" else spec.weight_bits


def folder_for(converted_dir: str, bits: int) -> Path:
    """The folder of converted chat models with weights of so many bits."""
    return Path(converted_dir) / FOLDERS[bits]


def bits_in(folder: Path) -> int:
    """The bits of the weights of a converted model in `folder`, or in a temporary folder beside
    it."""
    names = (folder.parent.name, folder.parent.parent.name)
    return next(bits for bits, name in FOLDERS.items() if name in names)


def unusable(spec: LoadSpec, processor: Processor | None = None) -> str:
    """Why the model of `spec` does not run on OpenVINO here; empty if it may.

    Raises:
        InvalidModelFile: its configuration or its header is not valid.
        OSError: it cannot be read.
    """
    if missing_modules("openvino"):
        return "OpenVINO is not installed"
    processor = processor or read_processor()
    # Not on other architectures, nor where the system does not tell what the processor has.
    if processor.has("sse2", "avx") and not processor.has("avx2"):
        return "the processor has no AVX2"
    if spec.lora:
        return "its LoRA adapter is for llama.cpp"
    path = path_of(spec.path)
    if is_openvino_folder(path):
        return ""
    if reason := _refusal(path):
        return reason
    record = known_conversion(spec)
    if record is not None:
        return record.refusal
    # A folder's conversion is compared with transformers, a file's with llama.cpp.
    needed = missing_modules("transformers" if path.is_dir() else "llama.cpp")
    return f"its conversion needs {' and '.join(needed)}, not installed here" if needed else ""


def known_conversion(spec: LoadSpec) -> Record | None:
    """The record of the model's conversion; None if it would be converted when it is loaded."""
    return CONVERSIONS.known(path_of(spec.path), _folder(spec))


def forget_conversion(spec: LoadSpec) -> None:
    """Delete the model's converted form, which is made again when it is needed."""
    CONVERSIONS.forget(path_of(spec.path), _folder(spec))


def refusal_of(config: Mapping[str, Any]) -> str:
    """Why a model with this `config.json` cannot be converted; empty if it can."""
    kind = config.get("model_type")
    if kind not in KINDS:
        return "models of its kind are not converted"
    if "quantization_config" in config:
        return "its weights are quantized already"
    if config.get("hidden_act", "silu") != "silu":
        return "its activation function is not converted"
    if config.get("partial_rotary_factor", 1.0) != 1.0:
        return "its rotary positions cover a part of a head"
    if rope(config).get("rope_type", "default") not in ROPE_TYPES:
        return "its rotary positions are of another type"
    return "its attention has a window" if _has_window(config) else ""


def refusal_of_gguf(header: GgufHeader) -> str:
    """Why a model with this header of its first file cannot be converted; empty if it can."""
    kind, stated = header.architecture, header.metadata
    if kind not in GGUF_KINDS or stated.get(f"{kind}.expert_count"):
        return "models of its kind are not converted"
    if stated.get(f"{kind}.rope.scaling.type", "none") not in GGUF_ROPE_TYPES:
        return "its rotary positions are of another type"
    head = head_of(header)
    if not head or stated.get(f"{kind}.rope.dimension_count", head) != head:
        return "its rotary positions cover a part of a head"
    if stated.get(f"{kind}.attention.value_length", head) != head:
        return "its keys and values differ in width"
    return "its attention has a window" if stated.get(f"{kind}.attention.sliding_window") else ""


def head_of(header: GgufHeader) -> int:
    """The width of an attention head in a GGUF file; 0 if it is not one number."""
    kind, stated = header.architecture, header.metadata
    width, n_heads = (
        stated.get(f"{kind}.{key}") for key in ("embedding_length", "attention.head_count")
    )
    usual = width // n_heads if isinstance(width, int) and isinstance(n_heads, int) else 0
    found = stated.get(f"{kind}.attention.key_length", usual)
    return found if isinstance(found, int) else 0


def rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the rotary positions, which older files store in other places."""
    found: dict[str, Any] = {"rope_theta": config.get("rope_theta", 10_000.0)}
    for key in TRANSFORMERS_KEYS:
        stated = config.get(key)
        if isinstance(stated, dict):
            found |= stated
    found.setdefault("rope_type", found.get("type", "default"))
    return found


def _folder(spec: LoadSpec) -> Path:
    return folder_for(spec.converted_dir, weight_bits(spec))


def _refusal(path: Path) -> str:
    if path.is_dir():
        return refusal_of(read_object(path / "config.json"))
    return refusal_of_gguf(read_gguf_header(path))


def _has_window(config: Mapping[str, Any]) -> bool:
    layers = config.get("layer_types")
    if isinstance(layers, list) and set(map(str, layers)) != {"full_attention"}:
        return True
    if config.get("model_type") in WINDOW_BY_SWITCH and not config.get("use_sliding_window"):
        return False
    window, longest = config.get("sliding_window"), config.get("max_position_embeddings")
    return isinstance(window, int) and not (isinstance(longest, int) and window >= longest)
