"""Small rerankers with random weights: one that answers in words, and one in a GGUF file."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np

GUIDE_FOLDER = Path(__file__).parent.parent / "models" / "guide" / "qwen2-y26hkx-guide"


def write_causal(folder: Path, *, words: tuple[str, ...] = ("yes", "no"), **config: Any) -> None:
    """As Qwen3-Reranker is: a model that generates text, with the built-in tokenizer.

    Args:
        words: tokens beside those of the tokenizer.
    """
    import torch
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(GUIDE_FOLDER, local_files_only=True)
    tokenizer.add_tokens(list(words))
    torch.manual_seed(0)
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 96,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        # So large that scores differ from text to text, as those of a trained model do.
        "initializer_range": 0.3,
    }
    Qwen3ForCausalLM(Qwen3Config(**(shape | config))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_gguf(source: Path, out: Path, *, template: str = "") -> None:
    """The BERT of `source`, a GGUF file, with a head that scores pairs.

    Args:
        template: how a query and a document become one text; empty: around special tokens.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    reader = gguf.GGUFReader(str(source))
    writer = gguf.GGUFWriter(str(out), "bert")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        kind = field.types[0]
        value = field.contents()
        if field.name == "bert.pooling_type":
            value = int(gguf.PoolingType.RANK)
        writer.add_key_value(field.name, value, kind, sub_type=field.types[-1])
    if template:
        writer.add_chat_template([{"name": "rerank", "template": template}])
    random = np.random.default_rng(0)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        if tensor.name == "token_embd_norm.weight":
            n_hidden = len(tensor.data)
    for name, shape in (("cls", (n_hidden, n_hidden)), ("cls.output", (1, n_hidden))):
        values = random.normal(scale=0.3, size=shape).astype(np.float32)
        writer.add_tensor(f"{name}.weight", values)
        writer.add_tensor(f"{name}.bias", np.zeros(shape[0], np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def head_of(out: Path) -> tuple[Any, Any]:
    """The two matrices of the head of a file that `write_gguf` wrote."""
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(str(out)).tensors}
    return tensors["cls.weight"].copy(), tensors["cls.output.weight"].copy()
