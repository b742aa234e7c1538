"""Model files of a few hundred bytes, honest or lying, made without any library."""

import json
import struct
from pathlib import Path
from typing import Any

U32, STRING, ARRAY = 4, 8, 9
HONEST: dict[str, Any] = {
    "general.architecture": "qwen2",
    "qwen2.context_length": 512,
    "qwen2.block_count": 2,
    "qwen2.embedding_length": 64,
    "qwen2.attention.head_count": 2,
    "qwen2.pooling_type": 1,
    "tokenizer.ggml.tokens": ["a", "b", "c"],
}


def gguf(fields: dict[str, Any] = HONEST, shape: tuple[int, ...] = (8,)) -> bytes:
    """A GGUF file with these fields (texts, numbers, lists of texts) and one tensor of f32."""
    parts = [b"GGUF", struct.pack("<IQQ", 3, 1, len(fields))]
    for key, value in fields.items():
        parts += [_text(key), _field(value)]
    parts += [_text("w"), struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, 0)]
    header = b"".join(parts)
    size = 4
    for length in shape:
        size *= length
    # Data begins at a multiple of 32.
    return header + bytes(-len(header) % 32) + bytes(min(size, 4096))


def lying(**claims: int) -> bytes:
    """An honest file but for these numbers of its architecture."""
    return gguf(HONEST | {f"qwen2.{name}": value for name, value in claims.items()})


def safetensors(header: Any = None, data: bytes = bytes(8)) -> bytes:
    if header is None:
        header = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def write_chat_folder(folder: Path, **config: Any) -> None:
    """As transformers saves a model that generates text."""
    folder.mkdir(parents=True)
    said = {"architectures": ["Qwen2ForCausalLM"], "max_position_embeddings": 99} | config
    (folder / "config.json").write_text(json.dumps(said))
    (folder / "model.safetensors").write_bytes(safetensors())


def write_embedding_folder(folder: Path) -> None:
    """As sentence-transformers saves a model."""
    folder.mkdir(parents=True)
    modules = [{"type": "sentence_transformers.models.Transformer", "path": ""}]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 512}))
    (folder / "model.safetensors").write_bytes(safetensors())


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _field(value: Any) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _text(value)
    if isinstance(value, list):
        items = b"".join(map(_text, value))
        return struct.pack("<IIQ", ARRAY, STRING, len(value)) + items
    return struct.pack("<II", U32, value)
