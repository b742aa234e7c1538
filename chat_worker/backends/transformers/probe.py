"""Checks at load time that our way of computing a model gives the model's own result.

Models differ in the state that they keep of a text. A model that keeps more than keys and values,
or uses an unknown kind of attention, would otherwise answer nonsense without any error.
"""

from typing import Any

import torch
from torch import Tensor

from chat_worker.backends.transformers import USE_GGUF
from chat_worker.engine.runner import ModelRunner, RunFailed, ScheduledTokens, TruncateSlot
from chat_worker.engine.sampling import Sampler, SamplingParams
from chat_worker.engine.sequence import Sequence
from common.error_texts import ErrorText
from common.errors import BackendLoadFailed
from worker_runtime.memory.oom_signs import shortage_of

TOKENS = list(range(1, 17))
KNOWN_LAYERS = {"full_attention", "sliding_attention"}
# Mean difference as a part of the logits' spread; another order of summation causes a hundredth.
TOLERANCE = 0.1


@torch.inference_mode()
def plain_logits(model: Any) -> Tensor:
    """The model's logits after `TOKENS`, computed the plain way: (n_vocab,) float32."""
    output = model(input_ids=torch.tensor([TOKENS], device=model.device), use_cache=False)
    logits: Tensor = output.logits[0, -1].float().cpu()
    return logits


def check_layers(config: Any) -> None:
    """Check that all layers are of a known kind.

    Raises:
        BackendLoadFailed: the configuration states that some layers are of an unknown kind.
    """
    unknown = set(getattr(config, "layer_types", None) or ()) - KNOWN_LAYERS
    if unknown:
        raise _refusal(config)


def check_runner(runner: ModelRunner, config: Any, expected: Tensor) -> None:
    """Compute `TOKENS` in four pieces, beside another sequence, and compare the result.

    Raises:
        BackendLoadFailed: the result differs.
    """
    ours, other = _sequence(), _sequence()
    # One token and many, without a row, with one and with many: torch.compile distinguishes these.
    steps = (
        [ScheduledTokens(ours, 0, 0, 10, 0), ScheduledTokens(other, 1, 0, 5, 0)],
        [ScheduledTokens(ours, 0, 10, 1, 1)],
        [ScheduledTokens(ours, 0, 11, 2, 2), ScheduledTokens(other, 1, 5, 6, 2)],
        [ScheduledTokens(other, 1, 11, 1, 0), ScheduledTokens(ours, 0, 13, 3, 1)],
    )
    try:
        for items in steps:
            rows = runner.run(items)
    except (RunFailed, TypeError) as error:
        if shortage_of(error) is not None:
            raise
        raise _refusal(config) from error
    for slot in (0, 1):
        runner.apply(TruncateSlot(slot, 0))
    difference = (torch.from_numpy(rows[-1]) - expected).abs().mean()
    # Written so that NaN fails.
    if not difference <= TOLERANCE * expected.std():
        raise _refusal(config)


def _sequence() -> Sequence:
    sampler = Sampler(SamplingParams(), [])
    return Sequence(call_id=0, choice=0, tokens=list(TOKENS), limit=len(TOKENS), sampler=sampler)


def _refusal(config: Any) -> BackendLoadFailed:
    return BackendLoadFailed(
        ErrorText("architecture_unsupported", kind=config.model_type),
        suggestions=(USE_GGUF,),
    )
