"""Random-weight chat models of many shapes, as GGUF files and as transformers folders.

What a model takes in memory does not depend on the values of its weights.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.make_qwen_shape import (
    SPECIAL,
    TEMPLATE,
    Shape,
    add_vocabulary,
    quantize,
    train_tokenizer,
)

EPS = 1e-6
N_TRAINED = 8_000


@dataclass(frozen=True)
class Model:
    """
    Args:
        kind: as transformers names it.
        head: of keys and values; 0: hidden / n_heads.
        window: tokens that some layers attend over; 0: all layers over all.
        more: other entries of its config.json.
    """

    kind: str
    n_layers: int
    hidden: int
    n_heads: int
    n_kv_heads: int
    ffn: int
    n_vocab: int
    n_ctx: int = 8_192
    tied: bool = False
    head: int = 0
    window: int = 0
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.n_layers}x{self.hidden}-{self.n_kv_heads}-{self.n_vocab}"

    @property
    def architecture(self) -> str:
        """As llama.cpp names it: there is none for Mistral, whose files are Llama's."""
        return {"gemma3_text": "gemma3", "mistral": "llama"}.get(self.kind, self.kind)


def write_folder(folder: Path, model: Model, dtype: str) -> None:
    """As transformers loads it, with a tokenizer of its own."""
    tokenizer = _tokenizer(model)
    built = _built(model, tokenizer, dtype)
    built.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": SPECIAL[0],
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_bytes(msgspec.json.encode(about))


def write_file(path: Path, model: Model, quantization: str) -> None:
    """A GGUF file, quantized by llama.cpp itself unless that is "F16"."""
    plain = path if quantization == "F16" else path.with_suffix(".f16")
    _write_plain(plain, model)
    if plain != path:
        quantize(plain, path, quantization)
        plain.unlink()


def _write_plain(path: Path, model: Model) -> None:
    import gguf

    tokenizer = _tokenizer(model)
    weights = _built(model, tokenizer, "float32").state_dict()
    writer = gguf.GGUFWriter(path, model.architecture)
    writer.add_block_count(model.n_layers)
    writer.add_context_length(model.n_ctx)
    writer.add_embedding_length(model.hidden)
    writer.add_feed_forward_length(model.ffn)
    writer.add_head_count(model.n_heads)
    writer.add_head_count_kv(model.n_kv_heads)
    writer.add_layer_norm_rms_eps(EPS)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    if model.head:
        writer.add_key_length(model.head)
        writer.add_value_length(model.head)
    if model.window:
        writer.add_sliding_window(model.window)
    add_vocabulary(writer, tokenizer, model.n_vocab)
    architectures = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(architectures[model.architecture], model.n_layers)
    for name, tensor in weights.items():
        if name == "lm_head.weight" and model.tied:
            continue
        mapped = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if mapped is None:
            raise ValueError(f"no GGUF name for {name}")
        values = tensor.numpy()
        writer.add_tensor(mapped, values.astype(np.float16) if values.ndim == 2 else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file(progress=False)
    writer.close()


def _built(model: Model, tokenizer: Any, dtype: str) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    said = {
        "hidden_size": model.hidden,
        "intermediate_size": model.ffn,
        "num_hidden_layers": model.n_layers,
        "num_attention_heads": model.n_heads,
        "num_key_value_heads": model.n_kv_heads,
        "vocab_size": model.n_vocab,
        "max_position_embeddings": model.n_ctx,
        "rms_norm_eps": EPS,
        "tie_word_embeddings": model.tied,
        "bos_token_id": tokenizer.token_to_id(SPECIAL[0]),
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
        "pad_token_id": tokenizer.token_to_id(SPECIAL[0]),
    }
    said |= {"head_dim": model.head} if model.head else {}
    said |= {"sliding_window": model.window} if model.window else {}
    torch.manual_seed(0)
    config = AutoConfig.for_model(model.kind, **said | model.more)
    return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))


def _tokenizer(model: Model) -> Any:
    shape = Shape(n_vocab=model.n_vocab, n_trained=min(N_TRAINED, model.n_vocab // 2))
    return train_tokenizer(shape)
