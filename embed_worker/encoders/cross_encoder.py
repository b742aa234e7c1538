"""Cross-encoders on torch: a query and a document in one row give a score.

Weights are read from local safetensors files only, and no code that comes with a model is run.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tokenizers
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from common.error_texts import ErrorText
from common.errors import BackendLoadFailed
from embed_worker.encoders.devices import batch_tokens, computing, torch_device
from embed_worker.encoders.loaded import LoadedEncoder
from embed_worker.encoders.padding import padded
from embed_worker.encoders.pairs import Pairs, encoder_of, frame_of
from embed_worker.encoders.positions import max_tokens
from embed_worker.encoders.prompts import Prompts
from embed_worker.encoders.tokens import Tokenization
from embed_worker.engine.call import Row
from embed_worker.engine.runner import BatchFailed
from worker_runtime.machine.free_cores import thread_count

BACKEND = "cross-encoder"
Activation = Literal["sigmoid", "identity"]
# The last parts of the stored class names, such as "torch.nn.modules.linear.Identity".
ACTIVATIONS: dict[str, Activation] = {"Sigmoid": "sigmoid", "Identity": "identity"}


def load(
    path: Path, *, device: str, n_threads: int, on_progress: Callable[[float, str], None]
) -> LoadedEncoder:
    """Load the cross-encoder in a folder.

    Raises:
        BackendLoadFailed: the folder is not a cross-encoder that can be run here.
    """
    transformers_logging.disable_progress_bar()
    on_progress(0.6, "reading weights")
    files: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    model, loading = AutoModelForSequenceClassification.from_pretrained(
        str(path), use_safetensors=True, output_loading_info=True, **files
    )
    if loading["missing_keys"]:
        # The library would continue with random weights.
        raise _failed(ErrorText("score_weights_missing"))
    model.eval().to(torch_device(device))
    tokenizer = AutoTokenizer.from_pretrained(str(path), **files)
    if not getattr(tokenizer, "is_fast", False):
        raise _failed(ErrorText("no_tokenizer"))
    if model.config.num_labels != 1:
        raise _failed(ErrorText("too_many_outputs", n_outputs=model.config.num_labels))
    # A copy, because the library turns padding on in its own tokenizer at each use.
    own = tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    n_positions = getattr(model.config, "max_position_embeddings", None)
    most = max_tokens(model.base_model, tokenizer.model_max_length, n_positions)
    n_embedded = model.get_input_embeddings().num_embeddings
    tokens = Tokenization(own, max_tokens=most, n_embedded=n_embedded)
    return LoadedEncoder(
        runner=CrossEncoderRunner(model, tokenizer, thread_count(n_threads)),
        tokens=tokens,
        prompts=Prompts({}),
        device=str(model.device),
        batch_tokens=batch_tokens(model.device),
        backend=BACKEND,
        pairs=Pairs(encoder_of(own), frame_of(own), max_tokens=most),
        activation=_activation(path, model.config),
    )


class CrossEncoderRunner:
    """Runs the model on padded batches of pairs; a pair's vector is its score before activation."""

    dimension = 1

    def __init__(self, model: Any, tokenizer: Any, n_threads: Callable[[], int]) -> None:
        self._model = model
        self._n_threads = n_threads
        self._takes_types = "token_type_ids" in tokenizer.model_input_names
        self._pad_id = tokenizer.pad_token_id or 0
        self._pads_left = tokenizer.padding_side == "left"

    def encode(self, rows: Sequence[Row]) -> memoryview:
        with computing(self._n_threads):
            scores = self._scores(rows)
        if not np.isfinite(scores).all():
            raise BatchFailed("a score is not finite")
        return np.ascontiguousarray(scores).data.cast("B")

    def shed(self) -> None:
        """Nothing to free: a batch's buffers end with the batch."""

    @torch.inference_mode()
    def _scores(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        batch = padded(rows, pad_id=self._pad_id, on_left=self._pads_left)
        arrays = {"input_ids": batch.ids, "attention_mask": batch.mask}
        if self._takes_types:
            arrays["token_type_ids"] = batch.types
        device = self._model.device
        features = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
        logits = self._model(**features).logits
        scores: NDArray[np.float32] = logits.float().cpu().numpy().astype("<f4", copy=False)
        return scores


def _activation(path: Path, config: Any) -> Activation:
    """The activation in the model's configuration; sigmoid if none is stated."""
    newest = path / "config_sentence_transformers.json"
    places = [
        json.loads(newest.read_bytes()) if newest.is_file() else {},
        getattr(config, "sentence_transformers", None) or {},
        {"activation_fn": getattr(config, "sbert_ce_default_activation_function", None)},
    ]
    said = next((place["activation_fn"] for place in places if place.get("activation_fn")), "")
    name = str(said or "Sigmoid").rpartition(".")[2]
    if name not in ACTIVATIONS:
        raise _failed(ErrorText("activation_unknown", name=name[:64]))
    return ACTIVATIONS[name]


def _failed(message: ErrorText) -> BackendLoadFailed:
    return BackendLoadFailed(message, metadata={"backend": BACKEND})
