"""Models small enough to be made by a test: random weights, their own small vocabulary."""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

TEXT = "the capital of france is paris bananas are yellow what where who likes cheese memory"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
MAX_TOKENS = 32
DIMENSION = 32


def write_cross_encoder(folder: Path, *, n_labels: int = 1, **config: Any) -> None:
    """As transformers saves it.

    Args:
        config: more entries of its config.json.
    """
    from transformers import BertForSequenceClassification

    _write(folder, BertForSequenceClassification, num_labels=n_labels, **config)


def write_embedder(folder: Path, **own: Any) -> None:
    """As sentence-transformers saves it.

    Args:
        own: entries of its config_sentence_transformers.json, such as prompts.
    """
    from transformers import BertModel

    _write(folder, BertModel)
    pooling = {"word_embedding_dimension": DIMENSION, "pooling_mode_mean_tokens": True}
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.{kind}"}
        for index, (path, kind) in enumerate(
            [("", "models.Transformer"), ("1_Pooling", "models.Pooling")]
        )
    ]
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "config_sentence_transformers.json").write_text(json.dumps(own))


def _write(folder: Path, kind: Any, **config: Any) -> None:
    import torch
    from transformers import BertConfig, PreTrainedTokenizerFast

    tokenizer = _word_pieces()
    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=DIMENSION,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=MAX_TOKENS,
        # So large that outputs differ from text to text, as those of a trained model do.
        initializer_range=0.5,
        **config,
    )
    kind(shape).save_pretrained(folder)
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
