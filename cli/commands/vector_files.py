"""The files of vectors that `y26hkx embed` writes, a batch of texts at a time."""

import json
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO, Protocol

from cli.commands.failure import CommandError


class VectorFile(Protocol):
    """One format."""

    def add(self, texts: Sequence[str], vectors: Sequence[bytes]) -> None:
        """Write a batch; a vector is float32 in little-endian order."""

    def close(self) -> None:
        """Write what ends the file, which stays open."""


class NpyFile:
    """A matrix of float32 with a row for each text, as numpy reads it."""

    def __init__(self, file: BinaryIO, n_texts: int) -> None:
        self._file = file
        self._n_texts = n_texts
        self._has_header = False

    def add(self, texts: Sequence[str], vectors: Sequence[bytes]) -> None:
        if not self._has_header:
            self._write_header(len(vectors[0]) // 4)
        self._file.writelines(vectors)

    def close(self) -> None:
        """Do nothing: the header has said how many rows there are."""

    def _write_header(self, dimension: int) -> None:
        # Imported here: it takes 0.1 s, and the other formats do not need it.
        from numpy.lib import format as npy

        shape = {"descr": "<f4", "fortran_order": False, "shape": (self._n_texts, dimension)}
        npy.write_array_header_1_0(self._file, shape)
        self._has_header = True


class JsonLines:
    """An object with `text` and `embedding` per line."""

    def __init__(self, file: BinaryIO, n_texts: int) -> None:
        self._file = file

    def add(self, texts: Sequence[str], vectors: Sequence[bytes]) -> None:
        for text, packed in zip(texts, vectors, strict=True):
            row = {"text": text, "embedding": _floats(packed).tolist()}
            self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")

    def close(self) -> None:
        """Do nothing: each line is complete."""


class ParquetFile:
    """A table with the columns `text` and `embedding`, a list of float32 of one length.

    Raises:
        CommandError: pyarrow is not installed.
    """

    def __init__(self, file: BinaryIO, n_texts: int) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise CommandError(
                f".parquet needs pyarrow: {sys.executable} -m pip install pyarrow"
            ) from error
        self._arrow: Any = pyarrow
        self._file = file
        self._writer: Any = None

    def add(self, texts: Sequence[str], vectors: Sequence[bytes]) -> None:
        arrow = self._arrow
        if self._writer is None:
            listed = arrow.list_(arrow.float32(), len(vectors[0]) // 4)
            schema = arrow.schema([("text", arrow.string()), ("embedding", listed)])
            self._writer = arrow.parquet.ParquetWriter(self._file, schema)
        schema = self._writer.schema
        values = arrow.array(_floats(b"".join(vectors)), arrow.float32())
        rows = arrow.FixedSizeListArray.from_arrays(values, type=schema.field("embedding").type)
        self._writer.write_table(arrow.table([arrow.array(texts), rows], schema=schema))

    def close(self) -> None:
        self._writer.close()


FORMATS: Mapping[str, Callable[[BinaryIO, int], VectorFile]] = {
    ".npy": NpyFile,
    ".jsonl": JsonLines,
    ".parquet": ParquetFile,
}


def _floats(packed: bytes) -> "array[float]":
    vector = array("f", packed)
    if sys.byteorder == "big":
        vector.byteswap()
    return vector
