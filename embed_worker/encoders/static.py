"""Static embeddings: a text's vector is the mean of a table's rows, one for each of its tokens.

The same is computed as by model2vec (Tulkens and van Dongen 2024) and by sentence-transformers'
StaticEmbedding; no library for neural networks is needed.
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from common.error_texts import ErrorText
from common.errors import BackendLoadFailed
from embed_worker.encoders.loaded import LoadedEncoder
from embed_worker.encoders.prompts import Prompts
from embed_worker.encoders.tokens import Tokenization
from embed_worker.engine.call import Row
from embed_worker.engine.runner import BatchFailed
from embed_worker.engine.vectors import unit
from worker_runtime.model_files.safetensors import check_safetensors
from worker_runtime.model_files.static_folders import StaticEmbeddings, read_static

BACKEND = "static"
# The names of the table in the files of sentence-transformers and of model2vec.
TABLES = ("embedding.weight", "embeddings")
TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I8": "i1", "I32": "<i4", "I64": "<i8"}
# These models set no limit; this one bounds the work for one text.
MOST_TOKENS = 1 << 17
BATCH_TOKENS = 8192


def load(path: Path) -> LoadedEncoder:
    """Load the table in a folder.

    Raises:
        BackendLoadFailed: there is no table that fits the tokenizer.
    """
    found = read_static(path)
    tokenizer = tokenizers.Tokenizer.from_file(str(found.tokenizer))
    # Both libraries leave the special tokens around a text out.
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single="$A", pair="$A $B")
    table = _Table(found)
    tokens = Tokenization(
        tokenizer, max_tokens=found.max_tokens or MOST_TOKENS, n_embedded=table.n_tokens
    )
    return LoadedEncoder(
        runner=StaticEncoder(table, found, _unknown(tokenizer) if found.skips_unknown else None),
        tokens=tokens,
        prompts=Prompts(found.prompts, found.default_prompt_name),
        device="cpu",
        batch_tokens=BATCH_TOKENS,
        backend=BACKEND,
        precision="f32",
    )


class _Table:
    """The rows, which may be shared by several tokens and weighted for each.

    Raises:
        BackendLoadFailed: the files have no table, or parts that do not fit each other.
    """

    def __init__(self, found: StaticEmbeddings) -> None:
        parts = _parts(found)
        rows = next((parts[name] for name in TABLES if name in parts), None)
        if rows is None or rows.ndim != 2:
            raise _failed()
        self._rows = rows
        self._row_of, self._weights = parts.get("mapping"), parts.get("weights")
        self.dimension = int(rows.shape[1])
        row_of = np.arange(len(rows)) if self._row_of is None else self._row_of
        if row_of.ndim != 1 or not len(row_of) or row_of.min() < 0 or row_of.max() >= len(rows):
            raise _failed()
        self.n_tokens = len(row_of)
        if self._weights is not None and self._weights.shape != (self.n_tokens,):
            raise _failed()

    def mean(self, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """The mean of the tokens' rows; zeros if there are no tokens."""
        if not len(ids):
            return np.zeros(self.dimension, np.float32)
        rows = self._rows[ids if self._row_of is None else self._row_of[ids]].astype(np.float32)
        if self._weights is not None:
            rows *= self._weights[ids].astype(np.float32)[:, None]
        return np.asarray(rows.mean(axis=0), np.float32)


class StaticEncoder:
    """Looks up the rows of each text's tokens."""

    def __init__(self, table: _Table, found: StaticEmbeddings, unknown: int | None) -> None:
        self._table = table
        self._is_normalized = found.is_normalized
        self._unknown = unknown
        self.dimension = table.dimension

    def encode(self, rows: Sequence[Row]) -> memoryview:
        vectors = np.stack([self._mean(row) for row in rows])
        if self._is_normalized:
            vectors = unit(vectors)
        if not np.isfinite(vectors).all():
            raise BatchFailed("a vector is not finite")
        return np.ascontiguousarray(vectors, "<f4").data.cast("B")

    def shed(self) -> None:
        """Nothing to free: there is only the table."""

    def _mean(self, row: Row) -> NDArray[np.float32]:
        ids = np.frombuffer(row.ids, np.int32)
        return self._table.mean(ids if self._unknown is None else ids[ids != self._unknown])


def _parts(found: StaticEmbeddings) -> dict[str, NDArray[Any]]:
    """The tensors of the files, mapped into memory and not read yet."""
    parts: dict[str, NDArray[Any]] = {}
    for file in found.weights.files:
        with file.open("rb") as opened:
            (header_bytes,) = struct.unpack("<Q", opened.read(8))
        for name, tensor in check_safetensors(file).tensors.items():
            # numpy lacks some types of numbers, such as bfloat16.
            if tensor.dtype not in TYPES:
                raise _failed()
            at = 8 + header_bytes + tensor.data_offsets[0]
            parts[name] = np.memmap(file, TYPES[tensor.dtype], "r", at, tuple(tensor.shape))
    return parts


def _unknown(tokenizer: tokenizers.Tokenizer) -> int | None:
    """The id of the token for unknown words; None if the tokenizer has none."""
    model: Any = tokenizer.model
    text = getattr(model, "unk_token", None)
    if text is not None:
        found: int | None = tokenizer.token_to_id(text)
        return found
    number: int | None = getattr(model, "unk_id", None)
    return number


def _failed() -> BackendLoadFailed:
    return BackendLoadFailed(ErrorText("static_table_unknown"), metadata={"backend": BACKEND})
