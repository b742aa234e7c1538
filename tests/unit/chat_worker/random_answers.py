"""What a model with random logits says under a constraint."""

import numpy as np

from chat_worker.backend import Tokenizer
from chat_worker.engine.sampling import TokenConstraint


def answer(tokenizer: Tokenizer, constraint: TokenConstraint, seed: int) -> str:
    random = np.random.default_rng(seed)
    said: list[int] = []
    while not constraint.is_complete:
        logits = random.normal(size=tokenizer.n_vocab).astype(np.float32)
        constraint.mask(logits)
        token = int(logits.argmax())
        constraint.accept(token)
        if token in tokenizer.end_tokens:
            break
        said.append(token)
        assert len(said) < 4_000
    return b"".join(tokenizer.piece(token) for token in said).decode()
