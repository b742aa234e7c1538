"""Made trees of files through both workers' scans: nothing raises, good neighbours are found.

A few examples by default; `--hypothesis-profile=many --hypothesis-show-statistics` runs thousands
and counts them.
"""

import contextlib
import json
import os
import sys
import tempfile
import threading
import time
import tracemalloc
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from chat_worker.discovery import ChatModelScan as ChatScan
from chat_worker.load_options import ChatLoadOptions
from chat_worker.model_dims import model_dims
from chat_worker.settings import ChatSettings
from embed_worker.discovery import EmbedModelScan as EmbedScan
from embed_worker.memory_estimate import load_options as embed_ladder
from embed_worker.settings import EmbedSettings
from tests.made_models import HONEST, gguf, safetensors
from worker_runtime.catalog import Scan
from worker_runtime.lifecycle.load_options import LoadOptions
from worker_runtime.lifecycle.snapshot import Counters, ModelSnapshot, ModelState
from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.folders import (
    is_causal_lm_folder,
    is_cross_encoder_folder,
    is_sentence_transformers_folder,
    read_causal_lm,
    read_cross_encoder,
    read_sentence_encoder,
)
from worker_runtime.model_files.gguf import read_gguf_header
from worker_runtime.model_files.safetensors import check_safetensors
from worker_runtime.rpc.status_messages import model_message

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it makes pipes and odd names")

FEW = 40
N_EXAMPLES = settings().max_examples if settings().max_examples != 100 else FEW
MIB = 1 << 20
MOST_S = 20.0
NEIGHBOUR = "neighbour"

fuzzed = settings(
    max_examples=N_EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["Qwen2ForCausalLM", "BertForSequenceClassification", "../x", "\0", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
KEYS = [
    "architectures", "auto_map", "max_position_embeddings", "hidden_size", "num_attention_heads",
    "num_hidden_layers", "num_key_value_heads", "head_dim", "vocab_size", "intermediate_size",
    "text_config", "id2label", "num_labels", "type", "model_type", "max_seq_length",
    "truncate_dim", "weight_map",
]  # fmt: skip
configs = (
    st.dictionaries(st.sampled_from(KEYS), json_values, max_size=6)
    | st.builds(
        lambda more: {"architectures": ["Qwen2ForCausalLM"]} | more,
        st.dictionaries(st.sampled_from(KEYS[1:]), json_values, max_size=6),
    )
    | st.just([{"type": "sentence_transformers.models.Transformer"}])
    | json_values
).map(lambda value: json.dumps(value).encode())

numbers = st.sampled_from([0, 1, 2, 255, 2**16, 2**24, 2**24 + 1, 2**30, 2**31, 2**32 - 1])
fields = st.sampled_from([key for key, value in HONEST.items() if isinstance(value, int)])
ggufs = st.just(gguf()) | st.dictionaries(
    fields | st.sampled_from(["qwen2.attention.head_count_kv", "qwen2.ssm.state_size"]), numbers
).map(lambda claims: gguf(HONEST | claims))
tensors = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "F4", "X"]),
        "shape": st.lists(st.integers(-1, 2**65), max_size=9),
        "data_offsets": st.lists(st.integers(-1, 2**65), min_size=1, max_size=3),
    }
)
safe = st.just(safetensors()) | st.dictionaries(st.text(max_size=4), tensors, max_size=3).map(
    safetensors
)


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """As it is, cut, with bits flipped, or with something behind it."""
    content = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 3))):
        if content:
            at = draw(st.integers(0, len(content) - 1))
            content[at] ^= 1 << draw(st.integers(0, 7))
    cut = draw(st.none() | st.integers(0, len(content)))
    return bytes(content[:cut]) + draw(st.just(b"") | st.binary(max_size=16))


contents = damaged(ggufs) | damaged(safe) | damaged(configs) | st.binary(max_size=64)
PLAIN_NAMES = [
    "a.gguf", "b.gguf", "a-00001-of-00002.gguf", "a-00002-of-00002.gguf", "c-00001-of-00000.gguf",
    "d-00001-of-99999.gguf", "a", "mmproj.gguf", "config.json", "modules.json", "model.safetensors",
    "model.safetensors.index.json", "config_sentence_transformers.json", "1_Pooling",
    "sentence_bert_config.json", "pytorch_model.bin", "embedding", "qwen", "guide", "lost+found",
    ".hidden", "remote.toml", "e\N{COMBINING ACUTE ACCENT}.gguf", "é.gguf", "\n.gguf", " .gguf",
]  # fmt: skip
odd_names = st.binary(min_size=1, max_size=12).map(lambda name: os.fsdecode(name + b".gguf"))
names = (st.sampled_from(PLAIN_NAMES) | odd_names | st.text(min_size=1, max_size=12)).filter(
    lambda name: (
        not {"/", "\0"} & set(name)
        and name not in (".", "..")
        and not name.startswith(NEIGHBOUR)
        and _is_encodable(name)
    )
)
links = names | st.sampled_from([".", "..", "/dev/zero", "/dev/null", "x" * 300, "/nowhere/at/all"])
leaves = (
    st.tuples(st.just("file"), contents, st.sampled_from([0o644, 0o644, 0o000]))
    | st.tuples(st.just("link"), links)
    | st.tuples(st.just("pipe"))
)
trees = st.recursive(
    st.dictionaries(names, leaves, max_size=6),
    lambda inner: st.dictionaries(names, leaves | inner, max_size=6),
    max_leaves=12,
)


@fuzzed
@given(
    root=trees, embedding=trees, races=st.lists(st.sampled_from(["go", "cut", "pipe"]), max_size=6)
)
def test_no_tree_of_files_ends_a_scan_or_hides_a_good_model(
    root: dict[str, Any], embedding: dict[str, Any], races: list[str]
) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as made:
        folder = Path(made) / "models"
        write(root | {"embedding": embedding}, folder)
        for place in (folder, folder / "embedding"):
            (place / f"{NEIGHBOUR}.gguf").write_bytes(gguf())
        event(f"races: {bool(races)}")
        began = time.monotonic()
        chat = ChatSettings(
            _env_file=None,
            models_dir=folder,
            model_path=folder / next(iter(root), "none"),
            remote_models=folder / "remote.toml",
        )
        embed = EmbedSettings(_env_file=None, models_dir=folder)
        chat_scan, embed_scan = ChatScan(chat), EmbedScan(embed)
        with changing(folder, races):
            found = [chat_scan(), embed_scan()]
        found += [chat_scan(), embed_scan()]
        for scan in found:
            check(scan)
        ladders: tuple[LoadOptions, LoadOptions] = (ChatLoadOptions(chat_scan, chat), embed_ladder)
        for scan, load_options in zip(found[2:], ladders, strict=True):
            for entry in scan.entries:
                if not entry.broken and entry.backend != "remote":
                    with contextlib.suppress(InvalidModelFile):
                        assert load_options(entry)
                    event("a model that could be loaded")
        assert time.monotonic() - began < MOST_S


def check(scan: Scan) -> None:
    ids = [entry.id for entry in scan.entries]
    assert len(set(ids)) == len(ids)
    for entry in scan.entries:
        shown = ModelSnapshot(entry, False, ModelState.FAILED, Counters(), failure=entry.broken)
        assert model_message(shown).SerializeToString()
        categories = set(map(unicodedata.category, entry.id + entry.broken))
        assert not categories & {"Cc", "Cf", "Cs"}, entry
    good = {entry.id: entry for entry in scan.entries}[NEIGHBOUR]
    assert not good.broken


def write(tree: dict[str, Any], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, node in tree.items():
        path = folder / name
        with contextlib.suppress(FileExistsError, IsADirectoryError):
            if isinstance(node, dict):
                write(node, path)
            elif node[0] == "link":
                path.symlink_to(node[1])
            elif node[0] == "pipe":
                os.mkfifo(path)
            elif not os.path.lexists(path):
                path.write_bytes(node[1])
                path.chmod(node[2])


@contextlib.contextmanager
def changing(folder: Path, races: list[str]) -> Iterator[None]:
    """Files other than the good ones go, shrink and become pipes within the block."""
    paths = [
        Path(place) / name
        for place, _, files in os.walk(folder)
        for name in files
        if not name.startswith(NEIGHBOUR)
    ]

    def change() -> None:
        for kind, path in zip(races, paths, strict=False):
            with contextlib.suppress(OSError):
                if kind == "cut" and path.is_file() and not path.is_symlink():
                    os.truncate(path, 5)
                else:
                    path.unlink()
                if kind == "pipe":
                    os.mkfifo(path)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@fuzzed
@given(content=contents)
def test_no_header_raises_anything_else_or_takes_much_memory(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "file.gguf"
        path.write_bytes(content)
        tracemalloc.start()
        try:
            for read in (read_gguf_header, check_safetensors, model_dims):
                with contextlib.suppress(InvalidModelFile):
                    read(path)
                    event(f"{read.__name__} took it")
            assert tracemalloc.get_traced_memory()[1] < 4 * MIB
        finally:
            tracemalloc.stop()


@fuzzed
@given(config=configs, modules=st.none() | configs, index=st.none() | configs)
def test_no_json_in_a_folder_raises_anything_else(
    config: bytes, modules: bytes | None, index: bytes | None
) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "config.json").write_bytes(config)
        (folder / "model.safetensors").write_bytes(safetensors())
        for name, content in (("modules", modules), ("model.safetensors.index", index)):
            if content is not None:
                (folder / f"{name}.json").write_bytes(content)
        kinds = (
            is_causal_lm_folder(folder),
            is_cross_encoder_folder(folder),
            is_sentence_transformers_folder(folder),
        )
        event(f"kinds: {kinds}")
        for read in (read_causal_lm, read_cross_encoder, read_sentence_encoder, model_dims):
            with contextlib.suppress(InvalidModelFile, OSError):
                read(folder)
                event(f"{read.__name__} took it")


def _is_encodable(name: str) -> bool:
    try:
        return len(os.fsencode(name)) < 200
    except UnicodeEncodeError:
        return False
