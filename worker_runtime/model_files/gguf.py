"""Reads and checks the header of a GGUF file.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.foreign_files import open_regular
from worker_runtime.model_files.gguf_types import BLOCKS, FILE_TYPES
from worker_runtime.model_files.header_bytes import LENGTH, HeaderBytes

MAX_FIELDS = 16_384
MAX_TENSORS = 65_536
MAX_KEY_BYTES = 1024
MAX_STRING_BYTES = 4 * 1024 * 1024
MAX_ARRAY_ITEMS = 4 * 1024 * 1024
MAX_DIMENSIONS = 4
MAX_VALUES = 1 << 48
# For one file, and for all files of one model. Real vocabularies take up to 20 MB.
MAX_HEADER_BYTES = 128 * 1024 * 1024
# Longer strings and number arrays are checked, but not kept.
KEPT_STRING_BYTES = 4096
KEPT_TEMPLATE_BYTES = 128 * 1024
KEPT_ARRAY_ITEMS = 1024
TEMPLATE_KEY, VOCABULARY_KEY = "tokenizer.chat_template", "tokenizer.ggml.tokens"
# For all fields together, keys included; items of arrays count as bytes. Real files keep about
# 10,000.
MAX_KEPT = 1024 * 1024
VERSIONS = (2, 3)

_STRING, _ARRAY = 8, 9
_SCALARS: dict[int, struct.Struct] = {
    number: struct.Struct("<" + code) for number, code in enumerate("BbHhIif?")
} | {10: struct.Struct("<Q"), 11: struct.Struct("<q"), 12: struct.Struct("<d")}
# The end of a tensor's entry, by its number of dimensions: the dimensions, its type and its offset.
_PLACES = {n: struct.Struct(f"<{n}QIQ") for n in range(1, MAX_DIMENSIONS + 1)}

Scalar = int | float | bool | str


class GgufTensor(msgspec.Struct, frozen=True):
    """One entry of the tensor table."""

    name: str
    shape: tuple[int, ...]
    # The number of a ggml type.
    type: int
    # 0 for an unknown type.
    size_bytes: int
    # Where its bytes begin in the file.
    offset: int = 0


class GgufHeader(msgspec.Struct, frozen=True):
    """The metadata and the tensor table of a GGUF file."""

    version: int
    # Scalars, short strings, and arrays of up to `KEPT_ARRAY_ITEMS` numbers.
    metadata: dict[str, Scalar | list[Any]]
    # Lengths of all arrays, also of those that are not kept ("tokenizer.ggml.tokens").
    array_lengths: dict[str, int]
    tensors: list[GgufTensor]
    # Empty if it has none.
    chat_template: str
    # Where in the file the texts of its vocabulary begin and end.
    vocabulary_at: tuple[int, int] = (0, 0)
    # The header's length: from the start of the file to the end of the tensor table.
    n_bytes: int = 0

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    @property
    def name(self) -> str:
        return str(self.metadata.get("general.name", ""))

    @property
    def quantization(self) -> str:
        """A name such as "Q4_K_M"; empty if the file does not state it."""
        number = self.metadata.get("general.file_type")
        return FILE_TYPES.get(number, "") if isinstance(number, int) else ""

    @property
    def context_length(self) -> int:
        """Tokens that the model was trained for; 0 if the file does not state it."""
        value = self.metadata.get(f"{self.architecture}.context_length", 0)
        return value if isinstance(value, int) and 0 < value < 1 << 31 else 0

    @property
    def pooling_type(self) -> int:
        """How the vectors of its tokens become one, as llama.cpp counts the ways; 0: that is not
        stated, as for models that chat."""
        value = self.metadata.get(f"{self.architecture}.pooling_type", 0)
        return value if isinstance(value, int) else 0

    @property
    def vocabulary_size(self) -> int:
        return self.array_lengths.get(VOCABULARY_KEY, 0)

    @property
    def weight_bytes(self) -> int:
        return sum(tensor.size_bytes for tensor in self.tensors)


def read_gguf_header(path: Path, most_bytes: int = MAX_HEADER_BYTES) -> GgufHeader:
    """Read the header of `path`; everything it claims is checked against the file's size.

    Args:
        most_bytes: how much of the file may be read.
    Raises:
        InvalidModelFile: the header is wrong; str() is the reason, fit for users.
        OSError: the file cannot be read.
    """
    file, size_bytes = open_regular(path)
    with file:
        return gguf_header_in(file, size_bytes, most_bytes)


def gguf_header_in(
    file: BinaryIO, size_bytes: int, most_bytes: int = MAX_HEADER_BYTES
) -> GgufHeader:
    """Read the header of an open file of `size_bytes`, which may be on another machine. Raises as
    `read_gguf_header` does."""
    return _HeaderReader(HeaderBytes(file, size_bytes, most_bytes), size_bytes).read()


def read_gguf_headers(files: tuple[Path, ...]) -> Iterator[GgufHeader]:
    """Yield the headers of one model's files. Together they may be as large as one header. Raises
    as `read_gguf_header` does."""
    left, n_tensors = MAX_HEADER_BYTES, 0
    for path in files:
        header = read_gguf_header(path, left)
        left -= header.n_bytes
        n_tensors += len(header.tensors)
        if n_tensors > MAX_TENSORS:
            raise InvalidModelFile(f"the GGUF files claim {n_tensors} tensors")
        yield header


class _HeaderReader:
    def __init__(self, source: HeaderBytes, size_bytes: int) -> None:
        self._source = source
        self._take = source.take
        self._size_bytes = size_bytes
        self._metadata: dict[str, Scalar | list[Any]] = {}
        self._array_lengths: dict[str, int] = {}
        self._chat_template = ""
        self._vocabulary_at = (0, 0)
        self._n_kept = 0

    def read(self) -> GgufHeader:
        if self._take(4) != b"GGUF":
            raise InvalidModelFile("this is not a GGUF file")
        version = self._number(_SCALARS[4])
        if version not in VERSIONS:
            raise InvalidModelFile(f"GGUF version {version} is not supported")
        n_tensors = self._count(MAX_TENSORS, "tensors")
        n_fields = self._count(MAX_FIELDS, "metadata fields")
        for _ in range(n_fields):
            self._field()
        tensors = self._tensors(n_tensors)
        return GgufHeader(
            version,
            self._metadata,
            self._array_lengths,
            tensors,
            self._chat_template,
            self._vocabulary_at,
            self._source.position,
        )

    def _field(self) -> None:
        key = self._string(MAX_KEY_BYTES).decode("utf-8", "replace")
        self._keep(len(key))
        kind = self._number(_SCALARS[4])
        if kind == _STRING:
            self._text(key)
        elif kind == _ARRAY:
            self._array(key)
        else:
            self._metadata[key] = self._number(self._scalar(kind))

    def _text(self, key: str) -> None:
        length = self._length(MAX_STRING_BYTES)
        if key == TEMPLATE_KEY and length <= KEPT_TEMPLATE_BYTES:
            self._keep(length)
            self._chat_template = self._take(length).decode("utf-8", "replace")
            return
        if length > KEPT_STRING_BYTES:
            self._source.skip(length)
            return
        self._keep(length)
        self._metadata[key] = self._take(length).decode("utf-8", "replace")

    def _array(self, key: str) -> None:
        kind = self._number(_SCALARS[4])
        n_items = self._count(MAX_ARRAY_ITEMS, "array items")
        self._array_lengths[key] = n_items
        if kind == _STRING:
            begin = self._source.position
            self._source.skip_texts(n_items, MAX_STRING_BYTES)
            if key == VOCABULARY_KEY:
                self._vocabulary_at = (begin, self._source.position)
            return
        item = self._scalar(kind)
        # Only the library needs a vocabulary's tokens.
        if n_items > KEPT_ARRAY_ITEMS or key.startswith("tokenizer."):
            self._source.skip(n_items * item.size)
            return
        self._keep(n_items)
        packed = self._take(n_items * item.size)
        self._metadata[key] = list(struct.unpack(f"<{n_items}{item.format[-1]}", packed))

    def _keep(self, n: int) -> None:
        self._n_kept += n
        if self._n_kept > MAX_KEPT:
            raise InvalidModelFile("the GGUF file holds more metadata than any model needs")

    def _tensors(self, n_tensors: int) -> list[GgufTensor]:
        table = [self._tensor() for _ in range(n_tensors)]
        alignment = self._metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 0 < alignment <= 1 << 16:
            raise InvalidModelFile("the GGUF file has an impossible alignment")
        data_start = math.ceil(self._source.position / alignment) * alignment
        for tensor in table:
            if tensor.offset % alignment:
                raise InvalidModelFile(f"tensor {tensor.name!r} is not aligned")
            missing = data_start + tensor.offset + tensor.size_bytes - self._size_bytes
            if missing > 0:
                raise InvalidModelFile(
                    f"the GGUF file is truncated: tensor {tensor.name!r} ends {missing} bytes "
                    "beyond the end of the file"
                )
        return [
            msgspec.structs.replace(tensor, offset=data_start + tensor.offset) for tensor in table
        ]

    def _tensor(self) -> GgufTensor:
        """Its offset is counted from where the tensors begin."""
        name = self._string(MAX_KEY_BYTES).decode("utf-8", "replace")[:64]
        n_dimensions = self._number(_SCALARS[4])
        if not 0 < n_dimensions <= MAX_DIMENSIONS:
            raise InvalidModelFile(f"tensor {name!r} claims {n_dimensions} dimensions")
        place = _PLACES[n_dimensions]
        *shape, kind, offset = place.unpack(self._take(place.size))
        n_values = math.prod(shape)
        if n_values > MAX_VALUES:
            raise InvalidModelFile(f"tensor {name!r} claims {n_values} values")
        n_per_block, block_bytes = BLOCKS.get(kind, (1, 0))
        size_bytes = math.ceil(n_values / n_per_block) * block_bytes
        return GgufTensor(name, tuple(shape), kind, size_bytes, offset)

    def _scalar(self, kind: int) -> struct.Struct:
        if kind not in _SCALARS:
            raise InvalidModelFile(f"the GGUF file has a field of the unknown type {kind}")
        return _SCALARS[kind]

    def _count(self, most: int, what: str) -> int:
        count: int = self._number(_SCALARS[10])
        # Each of these items takes one byte at least.
        if count > min(most, self._size_bytes):
            raise InvalidModelFile(f"the GGUF file claims {count} {what}")
        return count

    def _string(self, most: int) -> bytes:
        return self._take(self._length(most))

    def _length(self, most: int) -> int:
        length: int = self._number(LENGTH)
        if length > most:
            raise InvalidModelFile(f"the GGUF file claims a text of {length} bytes")
        return length

    def _number(self, kind: struct.Struct) -> Any:
        return kind.unpack(self._take(kind.size))[0]
