"""Keys and values of all slots, and attention over them.

The tokens of a step, from all its sequences, form one packed row: the model's linear layers compute
all of them at once without padding, and only attention handles each sequence by itself. A slot has
its own copy of what it shares with others; its memory grows and shrinks with its tokens.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

SPARE_TOKENS = 64


@dataclass
class SlotCache:
    """Keys and values by layer, (n_kv_heads, capacity, head_dim); the first `length` are valid."""

    length: int = 0
    layers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @property
    def n_bytes(self) -> int:
        return sum(tensor.nbytes for held in self.layers.values() for tensor in held)

    def write(self, layer: int, start: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new tokens' keys and values (n_kv_heads, n_tokens, head_dim) from `start` on.

        Returns:
            The keys and values of all tokens up to the last new one.
        """
        end = start + keys.shape[1]
        held = self.layers.get(layer, (keys[:, :0], values[:, :0]))
        if held[0].shape[1] < end:
            # It grows in proportion, so that a long answer is not copied again and again.
            held = self.layers[layer] = _moved(held, start, end + end // 4 + SPARE_TOKENS)
        held[0][:, start:end] = keys
        held[1][:, start:end] = values
        return held[0][:, :end], held[1][:, :end]

    def cut(self, length: int) -> None:
        """Keep the first `length` tokens, and little more memory than they need."""
        self.length = length
        capacity = length + SPARE_TOKENS
        for layer, held in self.layers.items():
            if held[0].shape[1] > 2 * capacity:
                self.layers[layer] = _moved(held, length, capacity)
        if not length:
            self.layers.clear()

    def copy(self, length: int) -> "SlotCache":
        """A separate slot with the first `length` tokens of this one."""
        capacity = length + SPARE_TOKENS
        return SlotCache(
            length, {i: _moved(held, length, capacity) for i, held in self.layers.items()}
        )


def _moved(held: tuple[Tensor, Tensor], length: int, capacity: int) -> tuple[Tensor, Tensor]:
    """The first `length` tokens, copied to new memory for `capacity` tokens."""
    keys, values = (old.new_empty(old.shape[0], capacity, old.shape[2]) for old in held)
    keys[:, :length] = held[0][:, :length]
    values[:, :length] = held[1][:, :length]
    return keys, values


@dataclass(frozen=True)
class Span:
    """Tokens `begin` to `end` of the packed row; they follow the first `start` tokens of `slot`."""

    slot: SlotCache
    start: int
    begin: int
    end: int


@dataclass(eq=False)
class Packing:
    """The spans of a packed row; opaque to torch.compile, which would trace a list."""

    spans: list[Span]


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packing: Packing,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **unused: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers' layers call it, for a packed row.

    Args:
        query: (1, n_heads, n_tokens, head_dim); `key` and `value` have n_kv_heads.
        packing: the sequences of the tokens.
    Returns:
        (1, n_tokens, n_heads, head_dim)
    """
    parts = []
    for span in packing.spans:
        row = slice(span.begin, span.end)
        keys, values = span.slot.write(
            module.layer_idx, span.start, key[0, :, row], value[0, :, row]
        )
        queries = query[0, :, row]
        if softcap is not None:
            mixed = _capped(queries, keys, values, scaling, sliding_window, softcap)
        elif queries.shape[1] == 1:
            mixed = _decode(queries, keys, values, scaling, sliding_window)
        else:
            mixed = _prefill(queries, keys, values, scaling, sliding_window)
        parts.append(mixed.transpose(0, 1))
    # Spans are consecutive in the row. All are copied at once, because a GPU has a cost per
    # operation.
    return (torch.cat(parts) if len(parts) > 1 else parts[0])[None], None


def _decode(
    query: Tensor, keys: Tensor, values: Tensor, scaling: float | None, window: int | None
) -> Tensor:
    if window is not None:
        keys, values = keys[:, -window:], values[:, -window:]
    # The heads that share keys and values become rows of one query, so that nothing is repeated.
    packed = query.reshape(1, keys.shape[0], -1, query.shape[2])
    mixed = scaled_dot_product_attention(packed, keys[None], values[None], scale=scaling)
    return mixed.reshape(query.shape[0], 1, -1)


def _prefill(
    queries: Tensor, keys: Tensor, values: Tensor, scaling: float | None, window: int | None
) -> Tensor:
    n_tokens, n_keys = queries.shape[1], keys.shape[1]
    is_causal = n_tokens == n_keys and (window is None or n_keys <= window)
    mask = None if is_causal else _mask(n_tokens, n_keys, window, queries.device)
    mixed: Tensor = scaled_dot_product_attention(
        queries[None],
        keys[None],
        values[None],
        attn_mask=mask,
        is_causal=is_causal,
        scale=scaling,
        enable_gqa=keys.shape[0] != queries.shape[0],
    )
    return mixed[0]


def _capped(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    scaling: float | None,
    window: int | None,
    softcap: float,
) -> Tensor:
    """Attention with Gemma 2's bound on scores, which torch's own attention does not have."""
    repeats = queries.shape[0] // keys.shape[0]
    keys, values = (held.repeat_interleave(repeats, 0) for held in (keys, values))
    scale = queries.shape[2] ** -0.5 if scaling is None else scaling
    scores = softcap * torch.tanh(queries @ keys.transpose(1, 2) * (scale / softcap))
    mask = _mask(queries.shape[1], keys.shape[1], window, queries.device)
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1, dtype=torch.float32)
    return weights.to(values.dtype) @ values


@lru_cache(maxsize=8)  # the layers of a step need the same few masks
def _mask(n_tokens: int, n_keys: int, window: int | None, device: torch.device) -> Tensor:
    """True where a query, one of the last `n_tokens` positions, may attend to a key."""
    keys = torch.arange(n_keys, device=device)
    queries = keys[n_keys - n_tokens :, None]
    mask = keys <= queries
    return mask if window is None else mask & (keys > queries - window)
