"""Headers of model files and small files of model folders: honest, broken, lying, hostile."""

import contextlib
import json
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.folders import (
    is_causal_lm_folder,
    is_sentence_transformers_folder,
    read_causal_lm,
    read_sentence_encoder,
)
from worker_runtime.model_files.gguf import GgufHeader, read_gguf_header
from worker_runtime.model_files.gguf_files import gguf_id, gguf_models, gguf_shards
from worker_runtime.model_files.gguf_types import BLOCKS, FILE_TYPES
from worker_runtime.model_files.safetensors import check_safetensors

VOCABULARY = 3000


@pytest.fixture(scope="module")
def gguf_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name("Small")
    writer.add_context_length(512)
    writer.add_block_count(2)
    writer.add_file_type(7)
    writer.add_token_list([f"token {i}" for i in range(VOCABULARY)])
    writer.add_token_scores([0.0] * VOCABULARY)
    writer.add_array("qwen2.attention.head_count_kv", [2, 2])
    writer.add_chat_template("{{ messages }}" * 1000)
    writer.add_tensor("token_embd.weight", np.ones((32, 64), dtype=np.float32))
    writer.add_tensor("output_norm.weight", np.ones(64, dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def header_of(folder: Path, content: bytes) -> GgufHeader:
    path = folder / "model.gguf"
    path.write_bytes(content)
    return read_gguf_header(path)


def test_a_gguf_header_says_what_the_model_is(tmp_path: Path, gguf_bytes: bytes) -> None:
    header = header_of(tmp_path, gguf_bytes)
    assert (header.architecture, header.name, header.quantization) == ("qwen2", "Small", "Q8_0")
    assert (header.context_length, header.vocabulary_size) == (512, VOCABULARY)
    assert header.chat_template
    assert header.metadata["qwen2.attention.head_count_kv"] == [2, 2]
    assert "tokenizer.chat_template" not in header.metadata
    assert "tokenizer.ggml.scores" not in header.metadata
    assert [t.name for t in header.tensors] == ["token_embd.weight", "output_norm.weight"]
    assert header.weight_bytes == 32 * 64 * 4 + 64 * 2


def test_sizes_and_names_of_ggml_types_are_those_of_the_format() -> None:
    for kind, sizes in gguf.GGML_QUANT_SIZES.items():
        if kind.value in BLOCKS:
            assert BLOCKS[kind.value] == sizes, kind
    known = {item.value: item.name for item in gguf.LlamaFileType}
    for number, name in FILE_TYPES.items():
        assert known[number].removeprefix("MOSTLY_").removeprefix("ALL_") == name


def test_a_gguf_file_cut_anywhere_is_refused(tmp_path: Path, gguf_bytes: bytes) -> None:
    for length in [0, 3, 4, 8, 20, 24, 100, 5000, len(gguf_bytes) // 2, len(gguf_bytes) - 64]:
        with pytest.raises(InvalidModelFile, match=r"truncated|claims|not a GGUF"):
            header_of(tmp_path, gguf_bytes[:length])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PK\x03\x04" + bytes(64), "not a GGUF"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "version"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0), "claims"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63), "claims"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**62), "claims a text"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 0, 2**60), "array items"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 9, 1), "unknown type 9"),
        (b"GGUF" + struct.pack("<IQQQ1sI", 3, 0, 1, 1, b"k", 99), "unknown type 99"),
        (b"GGUF" + struct.pack("<IQQQ1sI", 3, 1, 0, 1, b"t", 2**31), "dimensions"),
        (b"GGUF" + struct.pack("<IQQQ1sIQQ", 3, 1, 0, 1, b"t", 2, 2**40, 2**40), "values"),
        (
            b"GGUF" + struct.pack("<IQQQ1sIQIQ", 3, 1, 0, 1, b"t", 1, 4, 0, 2**40),
            "beyond the end",
        ),
        (b"GGUF" + struct.pack("<IQQQ1sIQIQ", 3, 1, 0, 1, b"t", 1, 4, 0, 1), "not aligned"),
    ],
)
def test_hostile_gguf_claims_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(InvalidModelFile, match=reason):
        header_of(tmp_path, content + bytes(256))


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(at=st.floats(0, 1), bit=st.integers(0, 7))
def test_any_flipped_bit_is_read_or_refused(
    tmp_path: Path, gguf_bytes: bytes, at: float, bit: int
) -> None:
    flipped = bytearray(gguf_bytes)
    flipped[int(at * (len(flipped) - 1))] ^= 1 << bit
    with contextlib.suppress(InvalidModelFile):
        header_of(tmp_path, bytes(flipped))


def safetensors(header: Any, data_bytes: int) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(data_bytes)


def tensor(begin: int, end: int, *, dtype: str = "F32", shape: Any = (2,)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def test_an_honest_safetensors_file_passes(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    arrays: dict[str, Any] = {
        "a": np.zeros((3, 4), np.float32),
        "b": np.zeros(5, np.int64),
        "c": np.zeros(0),
    }
    save_file(arrays, path, metadata={"format": "np"})
    header = check_safetensors(path)
    assert header.metadata == {"format": "np"}
    assert header.tensors["a"].shape == [3, 4]
    assert header.data_bytes == 3 * 4 * 4 + 5 * 8


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "truncated"),
        (struct.pack("<Q", 2**60), "claims"),
        (struct.pack("<Q", 1000) + b"{}", "within its header"),
        (safetensors(b"not json", 0), "not valid"),
        (safetensors(b"[" * 100_000, 0), "not valid"),
        (safetensors({"a": tensor(0, 8)}, 7), "truncated: 1 bytes"),
        (safetensors({"a": tensor(0, 8)}, 9), "belong to no tensor"),
        (safetensors({"a": tensor(0, 2**62)}, 8), "does not fit"),
        (safetensors({"a": tensor(-8, 0)}, 8), "not valid"),
        (safetensors({"a": tensor(8, 16)}, 16), "does not fit"),
        (safetensors({"a": tensor(0, 8), "b": tensor(4, 12)}, 12), "does not fit"),
        (safetensors({"a": tensor(0, 8, dtype="F99")}, 8), "unknown type"),
        (safetensors({"a": tensor(0, 8, shape=[1] * 99)}, 8), "not valid"),
        (safetensors({"a": tensor(0, 8, shape=[-2])}, 8), "not valid"),
    ],
)
def test_broken_safetensors_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(InvalidModelFile, match=reason):
        check_safetensors(path)


def folder_with(folder: Path, **files: Any) -> Path:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    save_file({"a": np.zeros(4, np.float32)}, folder / "model.safetensors")
    return folder


QWEN = {"architectures": ["Qwen2ForCausalLM"], "max_position_embeddings": 2048}
MODULES = [{"type": "sentence_transformers.models.Transformer", "path": ""}]


def test_a_causal_lm_folder_is_recognised(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, config=QWEN)
    assert is_causal_lm_folder(folder)
    model = read_causal_lm(folder)
    assert (model.architecture, model.context_length) == ("Qwen2ForCausalLM", 2048)
    assert model.weights.files == (folder / "model.safetensors",)
    assert not is_sentence_transformers_folder(folder)


def test_encoders_are_not_causal_lms(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, config={"architectures": ["BertModel"]})
    assert not is_causal_lm_folder(folder)
    assert not is_causal_lm_folder(folder_with(tmp_path, config=QWEN, modules=MODULES))


def test_code_that_comes_with_a_model_is_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, config=QWEN | {"auto_map": {"AutoModel": "evil.Model"}})
    with pytest.raises(InvalidModelFile, match="auto_map"):
        read_causal_lm(folder)
    folder = folder_with(tmp_path, config={}, modules=[{"type": "evil.Module"}])
    with pytest.raises(InvalidModelFile, match="foreign code"):
        read_sentence_encoder(folder)


def test_a_sentence_transformers_folder_is_recognised(tmp_path: Path) -> None:
    limits = {"max_seq_length": 256}
    folder = folder_with(
        tmp_path,
        config={"max_position_embeddings": 512},
        modules=MODULES,
        sentence_bert_config=limits,
    )
    assert is_sentence_transformers_folder(folder)
    assert read_sentence_encoder(folder).context_length == 256


def test_pickled_missing_and_foreign_weights_are_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, config=QWEN)
    index = {"weight_map": {"a": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidModelFile, match="outside"):
        read_causal_lm(folder)
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidModelFile, match="missing"):
        read_causal_lm(folder)
    (folder / "model.safetensors.index.json").unlink()
    (folder / "model.safetensors").unlink()
    with pytest.raises(InvalidModelFile, match="no weights"):
        read_causal_lm(folder)
    (folder / "pytorch_model.bin").touch()
    with pytest.raises(InvalidModelFile, match="pickled"):
        read_causal_lm(folder)


def test_gguf_files_of_a_folder_are_models_without_projectors_and_later_shards(
    tmp_path: Path,
) -> None:
    names = ["b-Q8_0", "a-00001-of-00002", "a-00002-of-00002", "mmproj-b", "lost-00001-of-00002"]
    for name in names:
        (tmp_path / f"{name}.gguf").touch()
    found = gguf_models(tmp_path)
    assert [gguf_id(path) for path in found] == ["a", "b-Q8_0", "lost"]
    assert len(gguf_shards(found[0])) == 2
    assert gguf_shards(found[1]) == (found[1],)
    with pytest.raises(InvalidModelFile, match=r"lost-00002-of-00002.gguf is missing"):
        gguf_shards(found[2])
