"""GGUF files of random weights, small and of every family that OpenVINO takes."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import gguf
import numpy as np

from benchmarks.make_qwen_shape import TINY, add_vocabulary, train_tokenizer

HIDDEN, HEADS, KV_HEADS, FFN = 64, 4, 2, 96


def layer_tensors(kind: str, head: int) -> dict[str, tuple[int, ...]]:
    """The sizes of the tensors of one layer."""
    counts = {"q": HEADS, "k": KV_HEADS, "v": KV_HEADS}
    found: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (HIDDEN,),
        "ffn_norm.weight": (HIDDEN,),
        "attn_output.weight": (HIDDEN, HEADS * head),
        "ffn_down.weight": (HIDDEN, FFN),
    }
    if kind == "phi3":
        return found | {
            "attn_qkv.weight": (sum(counts.values()) * head, HIDDEN),
            "ffn_up.weight": (2 * FFN, HIDDEN),
        }
    found |= {"ffn_gate.weight": (FFN, HIDDEN), "ffn_up.weight": (FFN, HIDDEN)}
    found |= {f"attn_{part}.weight": (n * head, HIDDEN) for part, n in counts.items()}
    if kind in ("llama", "qwen2"):
        found |= {f"attn_{part}.bias": (n * head,) for part, n in counts.items()}
    if kind in ("qwen3", "gemma3"):
        found |= {f"attn_{part}_norm.weight": (head,) for part in "qk"}
    if kind == "gemma3":
        found |= {f"{name}.weight": (HIDDEN,) for name in ("post_attention_norm", "post_ffw_norm")}
    return found


def write_small_gguf(
    path: Path,
    *,
    kind: str = "llama",
    head: int = 16,
    n_layers: int = 2,
    tied: bool = False,
    stretch: str = "",
    stated: Mapping[str, float | str] = MappingProxyType({}),
) -> None:
    """A decided model of random weights, in the order of rows that llama.cpp expects.

    Args:
        stretch: the name of a tensor that stretches the rotary positions.
        stated: more values of the header, by their names without the kind.
    """
    random = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, kind)
    writer.add_block_count(n_layers)
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(50_000.0)
    writes = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    for name, value in stated.items():
        writes[type(value)](f"{kind}.{name}", value)
    add_vocabulary(writer, train_tokenizer(TINY), TINY.n_vocab)

    def add(name: str, *sizes: int, at: float = 0.0) -> None:
        values = random.standard_normal(sizes, np.float32) * np.float32(0.3) + np.float32(at)
        writer.add_tensor(name, values.astype(np.float16) if len(sizes) > 1 else values)

    add("token_embd.weight", TINY.n_vocab, HIDDEN)
    add("output_norm.weight", HIDDEN, at=1.0)
    if not tied:
        add("output.weight", TINY.n_vocab, HIDDEN)
    if stretch:
        writer.add_tensor(stretch, np.linspace(1, 8, head // 2, dtype=np.float32))
    for layer in range(n_layers):
        for name, sizes in layer_tensors(kind, head).items():
            add(f"blk.{layer}.{name}", *sizes, at=float(name.endswith("norm.weight")))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file(progress=False)
    writer.close()
