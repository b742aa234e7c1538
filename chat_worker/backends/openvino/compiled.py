"""Reads and compiles models, for the CPU in one of several precisions."""

import contextlib
import mmap
import sys
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from chat_worker.backends.openvino.paged_model import paged
from chat_worker.conversions import GRAPH, WEIGHTS, Precision
from worker_runtime.machine.processor import read_processor

# Kernels for numbers of tokens that the plugin keeps: with its own 5,000, memory keeps growing.
N_KEPT_KERNELS = 256
# By the bits of our own weights, which have a scale for each row, or for each 32 in it.
GROUPS = {32: 0, 8: 128, 4: 32}
CPU = "CPU"
# Instructions that multiply numbers in bfloat16.
BFLOAT16 = ("amx_bf16", "avx512_bf16")
KV_TYPES = {"f16": "f16", "q8_0": "u8"}


class NoSuchDevice(Exception):
    """OpenVINO does not list the device, but those that the text names."""


def check_device(device: str) -> None:
    """Raises NoSuchDevice: this machine has no such device, or no driver for it."""
    listed = openvino.Core().available_devices
    if device not in listed:
        raise NoSuchDevice(", ".join(listed))


def read_model(folder: Path) -> tuple[Any, mmap.mmap | None]:
    """The model in `folder`, and the mapped file from which it reads weights."""
    core = openvino.Core()
    if sys.platform == "win32":
        # On Windows a writable mapping counts as memory in full.
        return core.read_model(folder / GRAPH), None
    with (folder / WEIGHTS).open("rb") as file:
        # Private, because the library asks for memory that it may write to.
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    weights = openvino.Tensor(np.frombuffer(pages, np.uint8), shared_memory=True)
    return core.read_model((folder / GRAPH).read_bytes(), weights), pages


def forget_pages(pages: mmap.mmap | None) -> None:
    """Give the mapped file's memory back once the weights are repacked; pages that are still read
    are loaded again."""
    if pages is not None and sys.platform != "win32":
        with contextlib.suppress(OSError):
            pages.madvise(mmap.MADV_DONTNEED)


def compile_model(
    model: Any,
    precision: Precision,
    kv_type: str,
    *,
    n_threads: int,
    group: int = 0,
    device: str = CPU,
) -> Any:
    """Compile `model`, whose attention becomes paged.

    Args:
        precision: f32 computes without any rounding. int8 rounds the inputs of products with 8-bit
            weights to 8 bits, in groups. bf16 computes in bfloat16. auto is bf16 if the processor
            has instructions for it, else int8; on other devices their own choice.
        kv_type: of the KV cache, as llama.cpp names it.
        n_threads: 0: the library's choice.
        group: inputs are rounded in groups of so many; larger ones cost less, and the weights'
            must not be smaller. 0: the library's choice.
    Raises:
        RuntimeError: OpenVINO does not support the model.
    """
    config = properties(precision, kv_type, n_threads=n_threads, group=group, device=device)
    return openvino.Core().compile_model(paged(model), device, config)


def properties(
    precision: Precision, kv_type: str, *, n_threads: int, group: int = 0, device: str = CPU
) -> dict[str, Any]:
    """OpenVINO's own, by the arguments of `compile_model`."""
    config: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "KV_CACHE_PRECISION": KV_TYPES[kv_type],
    }
    if device != CPU:
        if precision == "f32":
            config["INFERENCE_PRECISION_HINT"] = "f32"
        return config
    config |= {
        "NUM_STREAMS": 1,
        "CPU_RUNTIME_CACHE_CAPACITY": N_KEPT_KERNELS,
        "INFERENCE_PRECISION_HINT": "bf16" if _in_bfloat16(precision) else "f32",
    }
    if precision == "f32":
        config |= {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
        if kv_type == "f16":
            config["KV_CACHE_PRECISION"] = "f32"
    elif group:
        config["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = group
    if n_threads:
        config["INFERENCE_NUM_THREADS"] = n_threads
    return config


def _in_bfloat16(precision: Precision) -> bool:
    return precision == "bf16" or (precision == "auto" and bool(read_processor().has(*BFLOAT16)))
