"""The result of loading a model, for every library."""

from typing import Literal

import msgspec

from embed_worker.encoders.pairs import Pairs
from embed_worker.encoders.prompts import Prompts
from embed_worker.encoders.tokens import Tokenization
from embed_worker.engine.runner import EncoderRunner


class LoadedEncoder(msgspec.Struct, frozen=True):
    runner: EncoderRunner
    tokens: Tokenization
    prompts: Prompts
    # The device, as the library names it.
    device: str
    # Padded tokens of a micro-batch that suit this library and device.
    batch_tokens: int
    backend: str
    # Of the computation, as the library names it; empty: the dtype of the file.
    precision: str = ""
    # The smallest cosine of its vectors to those of torch in float32, over a few texts.
    cosine: float = 1.0
    # Only for a cross-encoder, whose vectors have one number, a pair's score. None: it embeds
    # texts.
    pairs: Pairs | None = None
    # Converts a cross-encoder's number to the score that its authors intend.
    activation: Literal["sigmoid", "identity"] = "identity"
