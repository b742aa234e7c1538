"""Makes random-weight models of Qwen2.5's shapes, so that speed can be measured offline.

    python3 run.py bench make-model                  # of 0.5B; GGUF: f16, Q8_0, Q4_K_M
    python3 run.py bench make-model --safetensors
    python3 run.py bench make-model --size 3b        # GGUF: Q4_K_M

Speed does not depend on the values of the weights. The vocabulary is byte-level BPE, trained here
on the help texts of Python's standard library and filled up with unreachable tokens to Qwen's
151,936, so that prompts have as many tokens as with a real one and logits have their real size.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

OUT = Path(__file__).parent / "models"
EPS, ROPE_BASE = 1e-6, 1_000_000.0
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message.role != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Shape:
    """Args:
    n_trained: tokens of the vocabulary that text can reach.
    scale: standard deviation of the weights.
    more_special: control tokens on top of Qwen2.5's.
    tied: the head is the matrix of the embeddings.
    """

    name: str = "qwen-shape-0.5b"
    n_layers: int = 24
    hidden: int = 896
    n_heads: int = 14
    n_kv_heads: int = 2
    ffn: int = 4864
    n_vocab: int = 151_936
    n_ctx: int = 32_768
    n_trained: int = 24_000
    scale: float = 0.02
    more_special: tuple[str, ...] = ()
    tied: bool = True

    @property
    def head(self) -> int:
        """The width of an attention head."""
        return self.hidden // self.n_heads

    @property
    def special(self) -> tuple[str, ...]:
        return (*SPECIAL, *self.more_special)


QWEN_05B = Shape()
LARGER = {
    "1.5b": Shape("qwen-shape-1.5b", 28, 1536, 12, 2, 8960),
    "3b": Shape("qwen-shape-3b", 36, 2048, 16, 2, 11008),
    "7b": Shape("qwen-shape-7b", 28, 3584, 28, 4, 18944, 152_064, tied=False),
}
# For tests: made in a second, and decided enough that rounding does not change its greedy text.
TINY = Shape("tiny", 2, 64, 4, 2, 128, 1_024, 2_048, 700, 0.25)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py bench make-model", description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--safetensors", action="store_true", help="write a transformers folder")
    parser.add_argument("--size", choices=("0.5b", *LARGER), default="0.5b")
    parser.add_argument("--seed", type=int, default=20_26)
    chosen = parser.parse_args(argv)
    chosen.out.mkdir(parents=True, exist_ok=True)
    shape = QWEN_05B
    if chosen.size in LARGER:
        # Imported here because it imports this module.
        from benchmarks.make_large_shape import write_q4_k_m

        larger = LARGER[chosen.size]
        path = chosen.out / f"{larger.name}-Q4_K_M.gguf"
        write_q4_k_m(path, larger, chosen.seed)
        _said(path)
    elif chosen.safetensors:
        write_safetensors(chosen.out / shape.name, shape, chosen.seed)
    else:
        f16 = chosen.out / f"{shape.name}-f16.gguf"
        write_gguf(f16, shape, chosen.seed)
        for label in ("Q8_0", "Q4_K_M"):
            quantize(f16, chosen.out / f"{shape.name}-{label}.gguf", label)
    return 0


def train_tokenizer(shape: Shape) -> Tokenizer:
    """A byte-level BPE tokenizer with `shape.n_vocab` tokens, specials last, as Qwen2 has them."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=shape.n_trained,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(topics.values(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocab: dict[str, int] = model["vocab"]
    merges = [tuple(pair) for pair in model["merges"]]
    n_plain = shape.n_vocab - len(shape.special)
    for index in range(len(vocab), n_plain):
        vocab[f"Ġunused{index}"] = index
    tokenizer.model = models.BPE(vocab=vocab, merges=merges)
    tokenizer.add_special_tokens(list(shape.special))
    return tokenizer


def tensors(shape: Shape, seed: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """(name as transformers has it, values) for every tensor; the head is tied."""
    random = np.random.default_rng(seed)

    def normal(*sizes: int) -> NDArray[np.float32]:
        return random.standard_normal(sizes, dtype=np.float32) * np.float32(shape.scale)

    yield "model.embed_tokens.weight", normal(shape.n_vocab, shape.hidden)
    yield "model.norm.weight", np.ones(shape.hidden, np.float32)
    for layer in range(shape.n_layers):
        at = f"model.layers.{layer}"
        for projection, n_heads in (
            ("q", shape.n_heads),
            ("k", shape.n_kv_heads),
            ("v", shape.n_kv_heads),
        ):
            yield (
                f"{at}.self_attn.{projection}_proj.weight",
                normal(n_heads * shape.head, shape.hidden),
            )
            yield f"{at}.self_attn.{projection}_proj.bias", normal(n_heads * shape.head)
        yield f"{at}.self_attn.o_proj.weight", normal(shape.hidden, shape.hidden)
        yield f"{at}.mlp.gate_proj.weight", normal(shape.ffn, shape.hidden)
        yield f"{at}.mlp.up_proj.weight", normal(shape.ffn, shape.hidden)
        yield f"{at}.mlp.down_proj.weight", normal(shape.hidden, shape.ffn)
        yield f"{at}.input_layernorm.weight", np.ones(shape.hidden, np.float32)
        yield f"{at}.post_attention_layernorm.weight", np.ones(shape.hidden, np.float32)


def write_gguf(path: Path, shape: Shape, seed: int) -> None:
    import gguf

    writer = described(path, shape, gguf.LlamaFileType.MOSTLY_F16)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, shape.n_layers)
    for name, values in tensors(shape, seed):
        mapped = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if mapped is None:
            raise ValueError(f"no GGUF name for {name}")
        writer.add_tensor(mapped, values.astype(np.float16) if values.ndim == 2 else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file(progress=False)
    writer.close()
    _said(path)


def described(path: Path, shape: Shape, file_type: int) -> Any:
    """A writer of a GGUF file that knows everything but the tensors."""
    import gguf

    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name(shape.name)
    writer.add_block_count(shape.n_layers)
    writer.add_context_length(shape.n_ctx)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.n_heads)
    writer.add_head_count_kv(shape.n_kv_heads)
    writer.add_layer_norm_rms_eps(EPS)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_file_type(file_type)
    add_vocabulary(writer, train_tokenizer(shape), shape.n_vocab)
    return writer


def quantize(source: Path, target: Path, label: str) -> None:
    """Quantize a GGUF through llama.cpp itself."""
    # The module of C functions: `load_native` may have imported the package without its contents.
    from llama_cpp import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{label}")
    failed = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), params)
    if failed:
        raise RuntimeError(f"llama.cpp could not quantize {source} to {label}")
    _said(target)


def write_safetensors(folder: Path, shape: Shape, seed: int) -> None:
    """A folder that transformers loads: config, tokenizer, template and bf16 weights."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(shape)
    weights = {name: torch.from_numpy(values).bfloat16() for name, values in tensors(shape, seed)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads,
        "num_key_value_heads": shape.n_kv_heads,
        "vocab_size": shape.n_vocab,
        "max_position_embeddings": shape.n_ctx,
        "rms_norm_eps": EPS,
        "rope_theta": ROPE_BASE,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "bos_token_id": tokenizer.token_to_id(SPECIAL[0]),
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
    }
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": SPECIAL[0],
        "chat_template": TEMPLATE,
        "added_tokens_decoder": {
            index: {"content": token.content}
            for index, token in tokenizer.get_added_tokens_decoder().items()
        },
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config, indent=1))
    _said(folder)


def add_vocabulary(writer: Any, tokenizer: Tokenizer, n_vocab: int) -> None:
    import gguf

    model = json.loads(tokenizer.to_str())["model"]
    by_id = {index: token for token, index in tokenizer.get_vocab(with_added_tokens=True).items()}
    special = tokenizer.get_added_tokens_decoder()
    kinds = [
        gguf.TokenType.CONTROL if index in special else gguf.TokenType.NORMAL
        for index in range(n_vocab)
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([by_id[index] for index in range(n_vocab)])
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_eos_token_id(tokenizer.token_to_id("<|im_end|>"))
    writer.add_pad_token_id(tokenizer.token_to_id("<|endoftext|>"))
    writer.add_bos_token_id(tokenizer.token_to_id("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def _said(path: Path) -> None:
    size = sum(f.stat().st_size for f in path.rglob("*")) if path.is_dir() else path.stat().st_size
    print(f"{path}: {size / 1e6:.0f} MB")  # noqa: T201 - a script's output
