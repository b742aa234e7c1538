"""The files that `y26hkx embed` writes, as other programs read them."""

import io
import json
from array import array
from collections.abc import Sequence

import numpy
import pytest

from cli.commands.vector_files import FORMATS

TEXTS = ["a cat", "兩隻貓", "three"]
VECTORS = [[1.0, 0.5], [0.25, -2.0], [0.0, 3.0]]


def written(suffix: str) -> io.BytesIO:
    """A file of three vectors that came in two batches."""
    file = io.BytesIO()
    vectors = FORMATS[suffix](file, len(TEXTS))
    vectors.add(TEXTS[:2], packed(VECTORS[:2]))
    vectors.add(TEXTS[2:], packed(VECTORS[2:]))
    vectors.close()
    file.seek(0)
    return file


def packed(vectors: Sequence[Sequence[float]]) -> list[bytes]:
    return [array("f", vector).tobytes() for vector in vectors]


def test_numpy_reads_npy() -> None:
    assert numpy.load(written(".npy")).tolist() == VECTORS


def test_a_line_of_json_has_text_and_vector() -> None:
    rows = [json.loads(line) for line in written(".jsonl")]
    assert [row["text"] for row in rows] == TEXTS
    assert [row["embedding"] for row in rows] == VECTORS


def test_arrow_reads_parquet() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    file = written(".parquet")
    assert not file.closed
    table = parquet.read_table(file)
    assert table.to_pydict() == {"text": TEXTS, "embedding": VECTORS}
