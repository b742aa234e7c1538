"""Which library runs a model here, decided without importing any library."""

import importlib.util
import shutil
import sys

from common.packages import version_of
from embed_worker.encoders.conversion_files import VERSION
from embed_worker.settings import EmbedSettings

TORCH = "sentence-transformers"
OPENVINO = "openvino"
LLAMA_CPP = "llama.cpp"
CROSS_ENCODER = "cross-encoder"
CAUSAL_RERANKER = "causal-reranker"
LLAMA_RERANKER = "llama.cpp-reranker"
STATIC = "static"
# These score pairs of texts, and make no vectors.
RERANKERS = (CROSS_ENCODER, CAUSAL_RERANKER, LLAMA_RERANKER)
LIBRARIES = {
    TORCH: (TORCH, "torch"),
    OPENVINO: (OPENVINO,),
    LLAMA_CPP: ("llama-cpp-python",),
    CROSS_ENCODER: ("transformers", "torch"),
    CAUSAL_RERANKER: ("transformers", "torch"),
    LLAMA_RERANKER: ("llama-cpp-python",),
    STATIC: ("tokenizers",),
}


def backend(settings: EmbedSettings) -> str:
    """The configured backend; by default OpenVINO on CPUs, torch on GPUs."""
    if settings.backend in (TORCH, OPENVINO):
        return settings.backend
    on_cpu = settings.device == "cpu" or (settings.device == "auto" and not _may_have_gpu())
    return OPENVINO if on_cpu and importlib.util.find_spec(OPENVINO) is not None else TORCH


def version(backend: str) -> str:
    """The version of the libraries behind `backend`, and of the conversion of models for them."""
    conversion = [str(VERSION)] if backend == OPENVINO else []
    return " ".join([*(version_of(library) for library in LIBRARIES[backend]), *conversion])


def _may_have_gpu() -> bool:
    """Whether torch may find a GPU: Metal, or CUDA with a build that supports it."""
    if sys.platform == "darwin":
        return True
    return shutil.which("nvidia-smi") is not None and "+cpu" not in version_of("torch")
