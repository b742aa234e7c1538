"""The model as a function of tensors that can be traced.

An encoder does nearly all of its work token by token. In the unpadded form, the texts of a batch
are one after the other for this work, and are padded only for attention and pooling: short texts of
different lengths take a tenth to a sixth less time. The idea is that of ModernBERT's "unpadding"
(https://arxiv.org/abs/2412.13663, section 2.1.2), whose attention needs GPU kernels.
"""

import inspect
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from transformers import AttentionInterface

UNPADDED = "y26hkx-unpadded"
# Arguments that models pass to every attention, but that have no effect on its result here.
WITHOUT_EFFECT = {"dropout", "position_ids", "cache_position", "token_type_ids"}


class NotUnpaddable(ValueError):
    """The model must be traced in its padded form; the text states the reason."""


class TracedModel(torch.nn.Module):
    """The common part of both forms: the model's modules, the transformer first."""

    def __init__(self, model: SentenceTransformer, *, takes_types: bool) -> None:
        super().__init__()
        self.steps = torch.nn.ModuleList(model.children())
        self.takes_types = takes_types

    def embeddings(self, ids: torch.Tensor, **features: Any) -> torch.Tensor:
        """Return the transformer's embedding of each token."""
        if self.takes_types:
            features["token_type_ids"] = torch.zeros_like(ids)
        told = {"input_ids": ids, "modality": "text", **features}
        embeddings: torch.Tensor = self.steps[0](told)["token_embeddings"]
        return embeddings

    def vectors(self, embeddings: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        """Return one vector for each row; the mask of the pooling may exclude the prompt."""
        features = {"token_embeddings": embeddings, "attention_mask": pooled}
        for step in self.steps[1:]:
            features = step(features)
        return features["sentence_embedding"]


class PaddedModel(TracedModel):
    """The padded form, with the inputs of `PaddedInputs`, all of shape (rows, longest row)."""

    def __init__(self, model: SentenceTransformer, *, takes_types: bool) -> None:
        super().__init__(model, takes_types=takes_types)
        # The unpadded form may have replaced this; it is transformers' default.
        transformer = model[0].auto_model
        try:
            transformer.set_attn_implementation("sdpa")
        except ValueError:
            transformer.set_attn_implementation("eager")

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        ids, mask, pooled = ids.long(), mask.long(), pooled.long()
        return self.vectors(self.embeddings(ids, attention_mask=mask), pooled)


class UnpaddedModel(TracedModel):
    """The unpadded form, with the inputs of `UnpaddedInputs`.

    Raises:
        NotUnpaddable: the model takes no positions, or its attention cannot be replaced.
    """

    def __init__(self, model: SentenceTransformer, *, takes_types: bool) -> None:
        super().__init__(model, takes_types=takes_types)
        transformer = model[0].auto_model
        if "position_ids" not in inspect.signature(transformer.forward).parameters:
            raise NotUnpaddable("it takes no positions")
        self.attention = _AttentionWithinTexts()
        AttentionInterface.register(UNPADDED, self.attention)
        try:
            transformer.set_attn_implementation(UNPADDED)
        except ValueError as error:
            raise NotUnpaddable("its attention cannot be replaced") from error

    def forward(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        tokens: torch.Tensor,
        places: torch.Tensor,
        mask: torch.Tensor,
        pooled: torch.Tensor,
    ) -> torch.Tensor:
        ids, tokens = ids.long()[None], tokens.long()
        self.attention.tokens, self.attention.places = tokens, places.long()
        self.attention.mask = mask.bool()[:, None, None, :]
        embeddings = self.embeddings(ids, position_ids=positions.long()[None])
        return self.vectors(embeddings[0][tokens], pooled.long())


class _AttentionWithinTexts:
    """The attention that transformers calls in each layer of a model with unpadded texts."""

    tokens: torch.Tensor
    places: torch.Tensor
    mask: torch.Tensor

    def __call__(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: None,
        *,
        scaling: float | None = None,
        sliding_window: int | None = None,
        **others: Any,
    ) -> tuple[torch.Tensor, None]:
        """Compute the attention within each text.

        Args:
            query, key, value: of shape (1, heads, tokens, head dimension).
            attention_mask: None, because models create no mask for an unknown attention.
            sliding_window: tokens attend to tokens at a smaller distance than this.
        Raises:
            NotUnpaddable: the model uses another kind of attention.
        """
        odd = [
            name
            for name in sorted(others.keys() - WITHOUT_EFFECT)
            if others[name] is not None and others[name] is not False
        ]
        if odd:
            raise NotUnpaddable(f"its attention is not plain, {odd}")
        mask = self.mask
        columns = torch.arange(self.tokens.shape[1])
        if getattr(module, "is_causal", False):
            # Padding follows the text, so places of padding see the text and have a result, too.
            mask = mask & (columns[:, None] >= columns)
        if sliding_window is not None:
            mask = mask & ((columns[:, None] - columns).abs() < sliding_window)
        # Heads of queries may share those of keys and values.
        n_shared = query.shape[1] // key.shape[1]
        attended = torch.nn.functional.scaled_dot_product_attention(
            self._padded(query),
            self._padded(key).repeat_interleave(n_shared, dim=1),
            self._padded(value).repeat_interleave(n_shared, dim=1),
            attn_mask=mask,
            scale=scaling,
        )
        return attended.transpose(1, 2).flatten(0, 1)[self.places][None], None

    def _padded(self, states: torch.Tensor) -> torch.Tensor:
        """Pad (1, heads, tokens, head dimension) to (rows, heads, longest row, head dimension)."""
        return states.transpose(1, 2).flatten(0, 1)[self.tokens].transpose(1, 2)
