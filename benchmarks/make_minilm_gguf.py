"""Writes the built-in all-MiniLM-L6-v2 as a GGUF file, as llama.cpp's own converter does.

    python3 run.py bench make-minilm [--out FILE]

For the encoder's tests, and for llama-server beside us in the embeddings benchmark.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file

from benchmarks.report import say
from embed_worker.discovery import BUILT_IN_ID, built_in_folder

DEFAULT = Path(__file__).parent / "models" / f"{BUILT_IN_ID}-f16.gguf"
# What the file says of a token: that it is an ordinary one, or never part of a text.
SPECIAL = re.compile(r"\[.+\]")
# Before words that begin one; WordPiece marks the others, with "##".
WORD_START = "\u2581"
NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def write(folder: Path, out: Path) -> None:
    """`folder` is a BERT of sentence-transformers that takes the mean over all tokens."""
    out.parent.mkdir(parents=True, exist_ok=True)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    limits = json.loads((folder / "sentence_bert_config.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(str(out), "bert")
    writer.add_name(BUILT_IN_ID)
    writer.add_context_length(limits["max_seq_length"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    _add_vocabulary(writer, folder, config["type_vocab_size"])
    _add_tensors(writer, folder, limits["max_seq_length"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: Any, folder: Path, n_types: int) -> None:
    words = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    is_special = [SPECIAL.fullmatch(word) is not None for word in words]
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_type_count(n_types)
    writer.add_token_list(
        [
            word if special else word[2:] if word.startswith("##") else WORD_START + word
            for word, special in zip(words, is_special, strict=True)
        ]
    )
    kinds = {True: gguf.TokenType.CONTROL, False: gguf.TokenType.NORMAL}
    writer.add_token_types([kinds[special] for special in is_special])
    writer.add_bos_token_id(words.index("[CLS]"))
    writer.add_sep_token_id(words.index("[SEP]"))
    writer.add_unk_token_id(words.index("[UNK]"))
    writer.add_pad_token_id(words.index("[PAD]"))
    writer.add_mask_token_id(words.index("[MASK]"))


def _add_tensors(writer: Any, folder: Path, n_positions: int) -> None:
    for name, values in load_file(folder / "model.safetensors").items():
        if (target := _target(name)) is None:
            continue
        kept = values[:n_positions] if target == "position_embd.weight" else values
        # The library computes with norms, biases and the small tables in full precision.
        is_matrix = kept.ndim == 2 and target not in ("position_embd.weight", "token_types.weight")
        writer.add_tensor(target, kept.astype(np.float16 if is_matrix else np.float32))


def _target(name: str) -> str | None:
    """llama.cpp's name of a tensor; None: it has no use for it."""
    match = re.fullmatch(r"(?:encoder\.layer\.(\d+)\.)?(.+)\.(weight|bias)", name)
    if match is None or match[2] not in NAMES:
        return None
    block = f"blk.{match[1]}." if match[1] else ""
    return f"{block}{NAMES[match[2]]}.{match[3]}"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py bench make-minilm", description=__doc__)
    parser.add_argument("--out", type=Path, default=DEFAULT)
    out = parser.parse_args(argv).out
    folder = built_in_folder()
    if folder is None:
        raise RuntimeError("the built-in model is not installed")
    write(folder, out)
    say(f"{out}: {out.stat().st_size >> 20} MiB")
    return 0
