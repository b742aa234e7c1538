"""How close vectors of each kind of model are to those of sentence-transformers."""

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding
from tokenizers import Tokenizer
from transformers import ModernBertConfig, MPNetConfig, RobertaConfig

from benchmarks.make_minilm_gguf import write as write_gguf
from embed_worker.discovery import built_in_folder
from embed_worker.encoders import llama_cpp, openvino, static, torch
from embed_worker.encoders.loaded import LoadedEncoder
from tests.compatibility.page import table
from tests.unit.embed_worker.small_models import SHAPE, make, make_decoder, write_pooling

TEXTS = [
    "a",
    "What is the capital of France?",
    "記憶體不足時，模型會先被卸載。",
    "Ünïcödé, ﬁ ½ 🙂 МОСКВА",
    "The quick brown fox jumps over the lazy dog. " * 30,
]
QUERY = "query: "
HEAD = ("kind", "library", "least cosine")


def embeddings() -> str:
    with tempfile.TemporaryDirectory() as place:
        return table(HEAD, list(_rows(Path(place))))


def _rows(place: Path) -> Iterator[tuple[str, str, str]]:
    built_in = built_in_folder()
    assert built_in is not None
    for kind, folder in _folders(place, built_in):
        reference = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        for library, model in _loaded(folder, place / "converted"):
            yield kind, library, _least_cosine(model, reference)
    file = place / "minilm.gguf"
    write_gguf(built_in, file)
    reference = SentenceTransformer(str(built_in), device="cpu", local_files_only=True)
    model = llama_cpp.load(file, batch_tokens=0, max_rows=8, n_threads=0, on_progress=_ignore)
    yield "all-MiniLM-L6-v2, a GGUF file in float16", "llama.cpp", _least_cosine(model, reference)
    folder = _static(place / "static", built_in)
    reference = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    yield "static embeddings", "numpy", _least_cosine(static.load(folder), reference)


def _folders(place: Path, built_in: Path) -> Iterator[tuple[str, Path]]:
    yield "all-MiniLM-L6-v2 (BERT, mean)", built_in
    modern = {"local_attention": 16, "pad_token_id": 0, "sep_token_id": 102, "cls_token_id": 101}
    kinds: dict[str, Callable[[], Any]] = {
        "RoBERTa, mean": lambda: RobertaConfig(**SHAPE),
        "MPNet, mean": lambda: MPNetConfig(**SHAPE),
        "ModernBERT, mean": lambda: ModernBertConfig(**SHAPE, **modern),
    }
    for number, (kind, config) in enumerate(kinds.items()):
        make(place / str(number), built_in, config())
        yield kind, place / str(number)
    make(place / "first", built_in, RobertaConfig(**SHAPE))
    write_pooling(place / "first", "pooling_mode_cls_token")
    yield "RoBERTa, first token", place / "first"
    make_decoder(place / "decoder", built_in)
    yield "Qwen3 (decoder padded on the left), last token", place / "decoder"
    make(place / "bare", built_in, RobertaConfig(**SHAPE))
    for name in ("modules.json", "sentence_bert_config.json"):
        (place / "bare" / name).unlink()
    shutil.rmtree(place / "bare" / "1_Pooling")
    yield "bare encoder without modules.json", place / "bare"


def _loaded(folder: Path, cache: Path) -> Iterator[tuple[str, LoadedEncoder]]:
    yield "torch", torch.load(folder, device="cpu", n_threads=0, on_progress=_ignore)
    for precision in ("f32", "auto"):
        model = openvino.load(
            folder, cache=cache, precision=precision, n_threads=0, on_progress=_ignore
        )
        yield f"OpenVINO, {precision}: {model.precision}", model


def _static(folder: Path, built_in: Path) -> Path:
    tokenizer = Tokenizer.from_file(str(built_in / "tokenizer.json"))
    tokenizer.no_truncation()
    rows = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), 64))
    modules = [StaticEmbedding(tokenizer, embedding_weights=rows.astype("f4")), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder))
    return folder


def _least_cosine(model: LoadedEncoder, reference: SentenceTransformer) -> str:
    """The least over all texts, alone and behind a prompt."""
    # The library does not cut texts to the positions of a bare encoder, and fails.
    if reference.max_seq_length < math.inf:
        reference.max_seq_length = min(model.tokens.max_tokens, reference.max_seq_length)
    found, expected = [], []
    for prompt in ("", QUERY):
        rows = model.tokens.rows(TEXTS, prompt=prompt).rows
        vectors = np.frombuffer(model.runner.encode(rows), "<f4").reshape(len(TEXTS), -1)
        found.append(vectors)
        expected.append(reference.encode(TEXTS, prompt=prompt))
    return f"{_cosines(np.concatenate(found), np.concatenate(expected)).min():.6f}"


def _cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosines: NDArray[np.float32] = (one * other).sum(axis=1) / norms
    return cosines


def _ignore(fraction: float, stage: str) -> None:
    pass
