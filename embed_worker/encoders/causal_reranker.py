"""Rerankers that generate text: whether the next token is "yes" or "no" scores a pair.

Source: Qwen3-Reranker (Zhang et al. 2025), whose template and scores these are. Weights are read
from local safetensors files only, and no code that comes with a model is run.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from common.error_texts import ErrorText
from common.errors import BackendLoadFailed
from embed_worker.encoders.devices import batch_tokens, computing, torch_device
from embed_worker.encoders.loaded import LoadedEncoder
from embed_worker.encoders.padding import padded
from embed_worker.encoders.pairs import PairTemplate, TemplatePairs, encoder_of
from embed_worker.encoders.positions import MOST_TOKENS
from embed_worker.encoders.prompts import Prompts
from embed_worker.encoders.tokens import Tokenization
from embed_worker.engine.call import Row
from embed_worker.engine.runner import BatchFailed
from worker_runtime.machine.free_cores import thread_count

BACKEND = "causal-reranker"
YES, NO = "yes", "no"
TEMPLATE = PairTemplate(
    head=(
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query "
        'and the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
        "<|im_start|>user\n"
    ),
    before=(
        "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n"
        "<Query>: "
    ),
    between="\n<Document>: ",
    tail="<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
)


def load(
    path: Path, *, device: str, n_threads: int, on_progress: Callable[[float, str], None]
) -> LoadedEncoder:
    """Load the model in a folder.

    Raises:
        BackendLoadFailed: it cannot answer with "yes" and "no", or its tokenizer is not usable.
    """
    transformers_logging.disable_progress_bar()
    on_progress(0.6, "reading weights")
    files: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    model: Any = AutoModelForCausalLM.from_pretrained(str(path), use_safetensors=True, **files)
    model.eval().to(torch_device(device))
    tokenizer = AutoTokenizer.from_pretrained(str(path), **files)
    if not getattr(tokenizer, "is_fast", False):
        raise _failed(ErrorText("no_tokenizer"))
    # A copy, because the library turns padding on in its own tokenizer at each use.
    own = tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    yes, no = own.token_to_id(YES), own.token_to_id(NO)
    if yes is None or no is None:
        raise _failed(ErrorText("no_yes_and_no"))
    special = tokenizers.Tokenizer.from_str(own.to_str())
    most = min(model.config.max_position_embeddings, MOST_TOKENS)
    tokens = Tokenization(
        own, max_tokens=most, n_embedded=model.get_input_embeddings().num_embeddings
    )
    return LoadedEncoder(
        runner=CausalRunner(
            model, thread_count(n_threads), pad_id=tokenizer.pad_token_id or 0, yes=yes, no=no
        ),
        tokens=tokens,
        prompts=Prompts({}),
        device=str(model.device),
        batch_tokens=batch_tokens(model.device),
        backend=BACKEND,
        pairs=TemplatePairs(
            encoder_of(own),
            lambda text: list(special.encode(text, add_special_tokens=False).ids),
            TEMPLATE,
            max_tokens=most,
        ),
        activation="sigmoid",
    )


class CausalRunner:
    """Runs the model on batches that are padded on the left; a pair's vector is its log-odds."""

    dimension = 1

    def __init__(
        self, model: Any, n_threads: Callable[[], int], *, pad_id: int, yes: int, no: int
    ) -> None:
        self._model = model
        self._n_threads = n_threads
        self._pad_id = pad_id
        self._yes, self._no = yes, no

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
        batch = padded(rows, pad_id=self._pad_id, on_left=True)
        device = self._model.device
        mask = torch.from_numpy(batch.mask).to(device)
        logits = (
            self._model(
                input_ids=torch.from_numpy(batch.ids).to(device),
                attention_mask=mask,
                position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
                use_cache=False,
                logits_to_keep=1,
            )
            .logits[:, -1]
            .float()
        )
        odds = logits[:, self._yes] - logits[:, self._no]
        scores: NDArray[np.float32] = odds.cpu().numpy().astype("<f4", copy=False)
        return scores


def _failed(message: ErrorText) -> BackendLoadFailed:
    return BackendLoadFailed(message, metadata={"backend": BACKEND})
