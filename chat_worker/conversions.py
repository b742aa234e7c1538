"""Which chat models OpenVINO can run, by their headers, and where their converted forms are kept.

The worker reads this too, so it imports neither OpenVINO nor numpy.
"""

from pathlib import Path
from typing import Literal

from chat_worker.architectures import (
    longest_context,
    longest_context_of_gguf,
    refusal_of,
    refusal_of_gguf,
)
from chat_worker.backends.sizes import context_tokens
from chat_worker.model_dims import model_dims
from chat_worker.pipe_messages import LoadSpec
from worker_runtime.conversion import cache
from worker_runtime.conversion.cache import Conversions
from worker_runtime.libraries import missing_modules
from worker_runtime.machine.processor import Processor, read_processor
from worker_runtime.model_files.folders import is_openvino_folder
from worker_runtime.model_files.gguf import read_gguf_header
from worker_runtime.model_files.odd_paths import path_of
from worker_runtime.model_files.small_json import read_object

Precision = Literal["auto", "f32", "bf16", "int8"]
VERSION = 1
# By the bits of a weight; exact weights are stored apart from rounded ones.
FOLDERS: dict[int, str] = {32: "chat-f32", 8: "chat-int8", 4: "chat-int4"}
GRAPH = "openvino_model.xml"
WEIGHTS = "openvino_model.bin"


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
    if reason := _refusal(spec, path):
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


def _folder(spec: LoadSpec) -> Path:
    return folder_for(spec.converted_dir, weight_bits(spec))


def _refusal(spec: LoadSpec, path: Path) -> str:
    if path.is_dir():
        config = read_object(path / "config.json")
        reason = refusal_of(config)
        longest = 0 if reason else longest_context(config)
    else:
        header = read_gguf_header(path)
        reason, longest = refusal_of_gguf(header), longest_context_of_gguf(header)
    if reason or not longest:
        return reason
    is_longer = context_tokens(spec, model_dims(path).n_ctx_train) > longest
    return f"its rotary positions are of another type beyond {longest} tokens" if is_longer else ""
