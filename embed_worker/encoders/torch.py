"""sentence-transformers on torch: the reference for the other encoders.

Weights are read from local safetensors files only, and no code that comes with a model is run.
Pooling, normalisation and prompts follow the model's own configuration.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers.utils import logging as transformers_logging

from common.error_texts import ErrorText
from common.errors import BackendLoadFailed
from embed_worker.encoders.devices import batch_tokens, computing
from embed_worker.encoders.loaded import LoadedEncoder
from embed_worker.encoders.padding import padded
from embed_worker.encoders.positions import max_tokens
from embed_worker.encoders.prompts import Prompts
from embed_worker.encoders.tokens import Tokenization
from embed_worker.engine.call import Row
from embed_worker.engine.runner import BatchFailed
from worker_runtime.machine.free_cores import thread_count

BACKEND = "sentence-transformers"
# Kinds of models whose tokens see only those before them.
DECODERS = frozenset({"gemma", "gemma2", "llama", "mistral", "qwen2", "qwen3"})
POOLINGS = {"mean": "mean", "cls": "cls", "last": "lasttoken"}
PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}


def load(
    path: Path,
    *,
    device: str,
    n_threads: int,
    pooling: str = "",
    on_progress: Callable[[float, str], None],
) -> LoadedEncoder:
    """Load the model in a folder.

    Args:
        pooling: one of `POOLINGS`, in place of the model's own; empty: that.
    Raises:
        BackendLoadFailed: the folder is not a model that this library can run.
    """
    transformers_logging.disable_progress_bar()
    on_progress(0.6, "reading weights")
    model = load_model(path, device)
    if pooling:
        _pool(model, POOLINGS[pooling])
    return loaded(model, n_threads)


def load_model(path: Path, device: str, **model_kwargs: Any) -> SentenceTransformer:
    """The library's model, for inference only."""
    model = SentenceTransformer(
        str(path),
        device=None if device == "auto" else device,
        trust_remote_code=False,
        local_files_only=True,
        model_kwargs={"use_safetensors": True} | model_kwargs,
    )
    if not (path / "modules.json").exists() and model[0].config.model_type in DECODERS:
        # Only a text's last token has seen all of it.
        _pool(model, POOLINGS["last"])
    # Vectors are made whole here, and shortened for the requests that want it.
    model.truncate_dim = None
    # The library adds empty prompts called "query" and "document" to every model.
    told = _told_prompts(path)
    model.prompts = {name: text for name, text in model.prompts.items() if text or name in told}
    return model.eval()


def _pool(model: SentenceTransformer, mode: str) -> None:
    """Replace the model's pooling.

    Raises:
        BackendLoadFailed: it has none.
    """
    found = [at for at, module in enumerate(model.children()) if isinstance(module, Pooling)]
    if not found:
        raise _failed(ErrorText("pooling_fixed"))
    model[found[0]] = Pooling(model[0].get_embedding_dimension(), pooling_mode=mode)


def loaded(model: SentenceTransformer, n_threads: int = 0) -> LoadedEncoder:
    first = model[0]
    if not getattr(model.tokenizer, "is_fast", False) or "text" not in first.modality_config:
        raise _failed(ErrorText("no_plain_text"))
    dimension = model.get_embedding_dimension()
    if dimension is None:
        raise _failed(ErrorText("dimension_unknown"))
    tokens = Tokenization(
        # A copy, because the library turns padding on in its own tokenizer at each use.
        tokenizers.Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str()),
        max_tokens=max_tokens(first.auto_model, model.max_seq_length),
        n_embedded=first.auto_model.get_input_embeddings().num_embeddings,
    )
    prompts = Prompts(model.prompts, model.default_prompt_name or "")
    runner = TorchEncoder(model, dimension, thread_count(n_threads))
    precision = PRECISIONS.get(model.dtype, str(model.dtype))
    return LoadedEncoder(
        runner=runner,
        tokens=tokens,
        prompts=prompts,
        device=str(model.device),
        batch_tokens=batch_tokens(model.device),
        backend=BACKEND,
        precision=precision,
        # Of others nobody measured it.
        cosine=1.0 if model.dtype == torch.float32 else math.nan,
    )


def _told_prompts(path: Path) -> dict[str, Any]:
    """What the model's configuration says of prompts, which the library has checked."""
    file = path / "config_sentence_transformers.json"
    config = json.loads(file.read_bytes()) if file.is_file() else {}
    return config.get("prompts") or {}


class TorchEncoder:
    """Runs the model's modules on padded batches of token ids."""

    def __init__(
        self, model: SentenceTransformer, dimension: int, n_threads: Callable[[], int]
    ) -> None:
        self._model = model
        self._n_threads = n_threads
        self._tokenizer = model.tokenizer
        self.takes_types = "token_type_ids" in model.tokenizer.model_input_names
        self.pools_prompt = all(
            getattr(module, "include_prompt", True) for module in model.children()
        )
        self.dimension = dimension

    def encode(self, rows: Sequence[Row]) -> memoryview:
        with computing(self._n_threads):
            parts = [self._encode_alike(alike) for alike in self._alike(rows)]
        vectors = np.concatenate(parts) if len(parts) > 1 else parts[0]
        if not np.isfinite(vectors).all():
            raise BatchFailed("a vector is not finite")
        return np.ascontiguousarray(vectors).data.cast("B")

    def shed(self) -> None:
        """Nothing to free: a batch's buffers end with the batch."""

    def _alike(self, rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
        """Groups of neighbouring rows whose prompts the pooling can exclude together."""
        if self.pools_prompt:
            yield rows
        else:
            for _, alike in groupby(rows, key=lambda row: row.n_prompt):
                yield list(alike)

    @torch.inference_mode()
    def _encode_alike(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        batch = padded(
            rows,
            pad_id=self._tokenizer.pad_token_id or 0,
            on_left=self._tokenizer.padding_side == "left",
        )
        device = self._model.device
        features: dict[str, Any] = {
            "input_ids": torch.from_numpy(batch.ids).to(device),
            "attention_mask": torch.from_numpy(batch.mask).to(device),
            "modality": "text",
        }
        if self.takes_types:
            features["token_type_ids"] = torch.from_numpy(batch.types).to(device)
        if not self.pools_prompt:
            features["prompt_length"] = rows[0].n_prompt
        output = self._model(features)["sentence_embedding"]
        vectors: NDArray[np.float32] = output.float().cpu().numpy().astype("<f4", copy=False)
        return vectors


def _failed(message: ErrorText) -> BackendLoadFailed:
    return BackendLoadFailed(message, metadata={"backend": BACKEND})
