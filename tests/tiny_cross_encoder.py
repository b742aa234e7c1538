"""A cross-encoder small enough to be made by a test: random weights, its own small vocabulary."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

TEXT = "the capital of france is paris bananas are yellow what where who likes cheese memory"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
MAX_TOKENS = 32


def write_cross_encoder(folder: Path, *, n_labels: int = 1, **config: Any) -> None:
    """As transformers saves it.

    Args:
        config: more entries of its config.json.
    """
    import torch
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    tokenizer = _word_pieces()
    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=MAX_TOKENS,
        num_labels=n_labels,
        # As far from the start of training as a trained model: scores differ from text to text.
        initializer_range=0.5,
        **config,
    )
    BertForSequenceClassification(shape).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=MAX_TOKENS,
    ).save_pretrained(folder)


def _word_pieces() -> Tokenizer:
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *TEXT.split(), "?", "."]
    ids = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, ids[name]) for name in ("[CLS]", "[SEP]")],
    )
    return tokenizer
