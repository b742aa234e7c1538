"""Reads tensors of safetensors files one by one, without torch."""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from chat_worker.backends.openvino.decoder_graph import Floats
from chat_worker.backends.openvino.weights import ALL
from worker_runtime.conversion.cache import NotConvertible
from worker_runtime.model_files.safetensors import Tensor, check_safetensors

KINDS = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
LENGTH = struct.Struct("<Q")


class SafetensorsTensors:
    """The tensors of all files of a model; the files are mapped.

    Raises:
        InvalidModelFile: a file is damaged.
        OSError: a file cannot be read.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._found: dict[str, tuple[Path, int, Tensor]] = {}
        for file in files:
            header = check_safetensors(file)
            with file.open("rb") as opened:
                (length,) = LENGTH.unpack(opened.read(LENGTH.size))
            for name, tensor in header.tensors.items():
                self._found[name] = file, LENGTH.size + length, tensor

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensor(name)[2].shape)

    def read(self, name: str, rows: slice = ALL) -> Floats:
        file, start, tensor = self._tensor(name)
        if tensor.dtype not in KINDS:
            raise NotConvertible(f"it has weights of type {tensor.dtype}")
        at = start + tensor.data_offsets[0]
        kind: Any = KINDS[tensor.dtype]
        values: Any = np.memmap(file, kind, "r", at, tuple(tensor.shape))[rows]
        if tensor.dtype == "BF16":
            # The upper half of a float32.
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return np.ascontiguousarray(values, np.float32)

    def _tensor(self, name: str) -> tuple[Path, int, Tensor]:
        if name not in self._found:
            raise NotConvertible(f"it has no tensor {name}")
        return self._found[name]
