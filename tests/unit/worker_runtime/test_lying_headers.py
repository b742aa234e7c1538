"""Headers that claim what cannot be: a reason beside that model, and little memory for it."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.made_models import gguf, lying, safetensors, write_chat_folder
from tests.unit.worker_runtime.test_nasty_folders import chats

MIB = 1 << 20

LIES: dict[str, Callable[[], bytes]] = {
    "layers": lambda: lying(block_count=1 << 30),
    "layers and heads": lambda: lying(
        **{"block_count": 1 << 24, "attention.head_count_kv": 1 << 24}
    ),
    "width": lambda: lying(embedding_length=(1 << 32) - 1),
    "states": lambda: lying(**{"ssm.inner_size": 1 << 24, "ssm.state_size": 1 << 24}),
    "fields of numbers": lambda: _many_fields(1024),
    "long keys": lambda: gguf({f"{i:01000}": 1 for i in range(4000)}),
    "tensor of everything": lambda: gguf(shape=(1 << 47, 2)),
}


def _many_fields(n_numbers: int) -> bytes:
    numbers = b"\x01" * n_numbers
    field = b"\x09\0\0\0" + b"\0\0\0\0" + n_numbers.to_bytes(8, "little") + numbers
    keys = (f"k{i}".encode() for i in range(16_000))
    fields = b"".join(len(key).to_bytes(8, "little") + key + field for key in keys)
    return b"GGUF" + (3).to_bytes(4, "little") + bytes(8) + (16_000).to_bytes(8, "little") + fields


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_takes_little_memory_and_is_broken(tmp_path: Path, lie: str) -> None:
    (tmp_path / "lie.gguf").write_bytes(LIES[lie]())
    (tmp_path / "good.gguf").write_bytes(gguf())
    chats(tmp_path / "nowhere")
    with traced() as peak:
        found = chats(tmp_path)
    assert found["lie"].broken
    assert not found["good"].broken
    assert peak() < 24 * MIB


def test_safetensors_with_a_huge_header_take_little_memory_and_are_broken(tmp_path: Path) -> None:
    write_chat_folder(tmp_path / "many")
    tensor = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    many = json.dumps({f"t{i}": tensor for i in range(130_000)}).encode()
    (tmp_path / "many" / "model.safetensors").write_bytes(safetensors(many, b""))
    write_chat_folder(tmp_path / "wide")
    wide = {"w": {"dtype": "F32", "shape": [10**40], "data_offsets": [0, 8]}}
    (tmp_path / "wide" / "model.safetensors").write_bytes(safetensors(wide))
    with traced() as peak:
        found = chats(tmp_path)
    assert "130000 tensors" in found["many"].broken
    assert "not valid" in found["wide"].broken
    assert peak() < 64 * MIB


class traced:  # noqa: N801 - used like a function
    """The most memory that Python held within the block, as a function to ask afterwards."""

    def __enter__(self) -> Callable[[], int]:
        tracemalloc.start()
        self._peak = 0
        return lambda: self._peak

    def __exit__(self, *_: object) -> None:
        self._peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
