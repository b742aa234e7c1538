"""What loading a model gives, whichever library runs it."""

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
    # Where it runs, as the library names it.
    device: str
    # Padded tokens of a micro-batch that suit this library and device.
    batch_tokens: int
    backend: str
    # Of the arithmetic, as the library names it; empty: that of the file.
    precision: str = ""
    # Between its vectors and those of torch in float32 on a few texts, the smallest.
    cosine: float = 1.0
    # A cross-encoder's, whose vectors are one number: a pair's score. None: it embeds texts.
    pairs: Pairs | None = None
    # What makes a cross-encoder's number the score that its authors mean.
    activation: Literal["sigmoid", "identity"] = "identity"
