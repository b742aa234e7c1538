"""Reads and checks the header of a safetensors file, without the tensors.

Layout: a little-endian uint64 header length, that much JSON, then the tensors' bytes. Every offset
is checked against the file's size, so a truncated or wrong file never reaches a native loader.
Source: https://github.com/huggingface/safetensors#format
"""

import math
import struct
from pathlib import Path
from typing import Annotated

import msgspec

from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.foreign_files import open_regular

MAX_HEADER_BYTES = 10 * 1024 * 1024
MAX_TENSORS = 65_536
MAX_DIMENSIONS = 8
MAX_NUMBER = 1 << 62
_ITEM_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32,
    "F64": 64, "I64": 64, "U64": 64, "C64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip

_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
_Shape = Annotated[list[_Count], msgspec.Meta(max_length=MAX_DIMENSIONS)]


class Tensor(msgspec.Struct, frozen=True):
    """One tensor of the header."""

    dtype: str
    shape: _Shape
    # First byte and end, counted from the end of the header.
    data_offsets: tuple[_Count, _Count]


class SafetensorsHeader(msgspec.Struct, frozen=True):
    """The checked header of a safetensors file."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    # Bytes from the start of the file to the tensors.
    data_start: int

    @property
    def n_numbers(self) -> int:
        """Of all tensors."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors.values())

    @property
    def data_bytes(self) -> int:
        return max((t.data_offsets[1] for t in self.tensors.values()), default=0)


def check_safetensors(path: Path) -> SafetensorsHeader:
    """Read the header of `path`; all offsets are checked against the file's size.

    Raises:
        InvalidModelFile: the header is wrong; str() is the reason, fit for users.
        OSError: the file cannot be read.
    """
    file, size_bytes = open_regular(path)
    with file:
        head = file.read(8)
        if len(head) < 8:
            raise InvalidModelFile("the safetensors file is truncated")
        (length,) = struct.unpack("<Q", head)
        if length > MAX_HEADER_BYTES:
            raise InvalidModelFile(f"the safetensors header claims {length} bytes")
        if 8 + length > size_bytes:
            raise InvalidModelFile("the safetensors file ends within its header")
        text = file.read(length)
        if len(text) < length:
            raise InvalidModelFile("the safetensors file was cut while it was read")
    header = _decode(text, data_start=8 + length)
    _check_offsets(header, size_bytes - header.data_start)
    return header


def _decode(text: bytes, *, data_start: int) -> SafetensorsHeader:
    try:
        fields = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        if len(fields) > MAX_TENSORS:
            raise InvalidModelFile(f"the safetensors header lists {len(fields)} tensors")
        about = fields.pop("__metadata__", None)
        metadata = {} if about is None else msgspec.json.decode(about, type=dict[str, str])
        tensors = {
            name: msgspec.json.decode(field, type=Tensor, strict=True)
            for name, field in fields.items()
        }
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidModelFile("the safetensors header is not valid") from error
    return SafetensorsHeader(tensors, metadata, data_start)


def _check_offsets(header: SafetensorsHeader, data_bytes: int) -> None:
    expected = 0
    for name, tensor in sorted(header.tensors.items(), key=lambda item: item[1].data_offsets):
        bits = _ITEM_BITS.get(tensor.dtype)
        if bits is None:
            raise InvalidModelFile(
                f"tensor {name[:64]!r} has the unknown type {tensor.dtype[:16]!r}"
            )
        begin, end = tensor.data_offsets
        if begin != expected or (end - begin) * 8 != math.prod(tensor.shape) * bits:
            raise InvalidModelFile(f"tensor {name[:64]!r} does not fit its place in the file")
        expected = end
    if expected > data_bytes:
        missing = expected - data_bytes
        raise InvalidModelFile(f"the safetensors file is truncated: {missing} bytes are missing")
    if expected < data_bytes:
        raise InvalidModelFile("the safetensors file has bytes that belong to no tensor")
