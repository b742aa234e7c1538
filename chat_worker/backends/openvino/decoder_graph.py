"""Builds the OpenVINO graph of a decoder with RMS norms, rotary positions and gated feed-forwards.

`architectures.py` lists which models these are. The graph has the form in which hubs carry models
for OpenVINO: attention over a state, which the paged-attention transformation rewrites when the
model is loaded. Sources: transformers' `modeling_llama.py`, `modeling_qwen3.py`,
`modeling_phi3.py` and `modeling_gemma3.py`; the rotary positions are written so that OpenVINO's
`RoPEFusion` recognises them, and windows so that the paged-attention transformation does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as ops
from openvino import opset15
from openvino.op import util as op_util

Floats = NDArray[np.float32]
# Attention's weight of such a score is zero, and it can be stored in 16 bits.
NO_SCORE = -65504.0
END = np.iinfo(np.int64).max
# As transformers names them.
ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "silu": ops.swish,
    "gelu_pytorch_tanh": lambda state: ops.gelu(state, "tanh"),
}


@dataclass(frozen=True, eq=False)
class Attention:
    """What the attention of some layers has in common.

    Args:
        frequencies: of the rotary positions, radians per token: (rotated / 2,). The first
            `rotated` values of a head are rotated; None: none are.
        window: tokens that it looks back over, its own included; 0: all.
        rotation_scale: rotated values are multiplied by it.
    """

    frequencies: Floats | None
    window: int = 0
    rotation_scale: float = 1.0


@dataclass(frozen=True)
class DecoderShape:
    """The sizes of a decoder, and what its kind of model has.

    Args:
        head: the width of an attention head.
        epsilon: of the RMS norms.
        layers: the attention of each.
        activation: of the gate, as transformers names it.
        query_scale: of the products of queries and keys.
        embedding_scale: of the embeddings, not of the output layer.
        norm_offset: is added to the weights of norms.
    """

    n_heads: int
    n_kv_heads: int
    head: int
    epsilon: float
    layers: tuple[Attention, ...]
    activation: str
    query_scale: float
    embedding_scale: float = 1.0
    norm_offset: float = 0.0


class Weights(Protocol):
    """A model's tensors by the names that transformers gives them."""

    def __contains__(self, name: str) -> bool: ...

    def vector(self, name: str) -> Floats:
        """The weights of a norm or a bias, (n,)."""

    def matrix(self, name: str) -> Any:
        """The node of a matrix, (n_outputs, n_inputs), in float32 once it is decompressed."""


def decoder_graph(shape: DecoderShape, weights: Weights) -> openvino.Model:
    return _Builder(shape, weights).model()


class _Builder:
    """Adds node after node; activations are (rows, tokens, width)."""

    def __init__(self, shape: DecoderShape, weights: Weights) -> None:
        self._shape = shape
        self._weights = weights
        self._sinks: list[Any] = []
        self._variables: list[Any] = []
        self._ids = _input("input_ids", [-1, -1], np.int64)
        self._real = _input("attention_mask", [-1, -1], np.int64)
        self._positions = _input("position_ids", [-1, -1], np.int64)
        self._rows = _input("beam_idx", [-1], np.int32)
        self._n_rows = ops.gather(ops.shape_of(self._ids), _int([0]), _int(0))
        self._masks = {kind: self._mask(kind.window) for kind in dict.fromkeys(shape.layers)}
        self._rotations = {
            kind: self._rotation(kind.frequencies, kind.rotation_scale)
            for kind in self._masks
            if kind.frequencies is not None
        }

    def model(self) -> openvino.Model:
        table = self._weights.matrix("model.embed_tokens.weight")
        state = ops.gather(table, ops.convert(self._ids, "i32"), _int(0))
        if self._shape.embedding_scale != 1:
            state = ops.multiply(state, _float(self._shape.embedding_scale, 3))
        for layer in range(len(self._shape.layers)):
            state = self._layer(layer, state)
        state = self._norm("model.norm", state)
        is_tied = "lm_head.weight" not in self._weights
        head = table if is_tied else self._weights.matrix("lm_head.weight")
        result = ops.result(ops.matmul(state, head, False, True))
        result.output(0).get_tensor().set_names({"logits"})
        inputs = [self._ids, self._real, self._positions, self._rows]
        return openvino.Model([result], self._sinks, inputs, self._variables, "decoder")

    def _layer(self, layer: int, state: Any) -> Any:
        at = f"model.layers.{layer}"
        # Where the ends have norms, the one of this name is at attention's end.
        norms_after = f"{at}.pre_feedforward_layernorm.weight" in self._weights
        after = f"{at}.post_attention_layernorm"
        mixed = self._attention(layer, self._norm(f"{at}.input_layernorm", state))
        state = ops.add(state, self._norm(after, mixed) if norms_after else mixed)
        before = self._norm(f"{at}.pre_feedforward_layernorm" if norms_after else after, state)
        passed = self._feed_forward(f"{at}.mlp", before)
        if norms_after:
            passed = self._norm(f"{at}.post_feedforward_layernorm", passed)
        return ops.add(state, passed)

    def _mask(self, window: int) -> Any:
        """(rows, 1, tokens, all tokens): 0 where a token may attend, else `NO_SCORE`."""
        n_new = ops.gather(ops.shape_of(self._ids), _int(1), _int(0))
        n_all = ops.gather(ops.shape_of(self._real), _int(1), _int(0))
        keys = ops.unsqueeze(ops.range(_int(0), n_all, _int(1), "i64"), _int(0))
        queries = ops.range(ops.subtract(n_all, n_new), n_all, _int(1), "i64")
        queries = ops.unsqueeze(queries, _int(1))
        is_before = ops.unsqueeze(ops.less_equal(keys, queries), _int([0, 1]))
        is_real = ops.unsqueeze(ops.convert(self._real, "boolean"), _int([1, 2]))
        if not window:
            attends = ops.logical_and(is_before, is_real)
            return ops.select(attends, _float(0.0, 0), _float(NO_SCORE, 0))
        # The form in which the paged-attention transformation finds the window: its pattern
        # `gpt_oss_sliding_window`, with steps that change nothing.
        is_near = ops.greater(keys, ops.add(queries, _int(-window)))
        attends = opset15.bitwise_and(is_before, is_near)
        attends = opset15.bitwise_and(attends, is_real)
        attends = opset15.bitwise_and(is_before, attends)
        attends = opset15.bitwise_and(attends, is_real)
        sizes = ops.concat([self._n_rows, _int([1, 1, 1])], 0)
        spread = ops.broadcast(attends, sizes, broadcast_spec="BIDIRECTIONAL")
        mask = ops.select(spread, _float(0.0, 0), _float(NO_SCORE, 0))
        return ops.slice(mask, _int([0]), _int([END]), _int([1]), _int([3]))

    def _rotation(self, frequencies: Floats, scale: float) -> tuple[Any, Any]:
        """The cosines and sines of all positions, each (rows, 1, tokens, rotated)."""
        row = ops.constant(frequencies.reshape(1, -1, 1))
        by_row = ops.concat([self._n_rows, _int([1]), _int([1])], 0)
        spread = ops.broadcast(row, by_row, broadcast_spec="BIDIRECTIONAL")
        positions = ops.convert(ops.unsqueeze(self._positions, _int(1)), "f32")
        angles = ops.transpose(ops.matmul(spread, positions, False, False), _int([0, 2, 1]))
        both = ops.concat([angles, angles], -1)
        parts = ops.cos(both), ops.sin(both)
        if scale != 1:
            parts = tuple(ops.multiply(part, _float(scale, 3)) for part in parts)
        cosine, sine = (ops.unsqueeze(part, _int(1)) for part in parts)
        return cosine, sine

    def _attention(self, layer: int, state: Any) -> Any:
        shape, kind = self._shape, self._shape.layers[layer]
        at = f"model.layers.{layer}.self_attn"
        queries, keys, values = self._heads(at, state)
        if kind in self._rotations:
            queries, keys = (
                self._rotated(part, *self._rotations[kind]) for part in (queries, keys)
            )
        mixed = ops.scaled_dot_product_attention(
            queries,
            self._for_all_heads(self._with_past(f"{layer}.key", keys)),
            self._for_all_heads(self._with_past(f"{layer}.value", values)),
            self._masks[kind],
            _float(shape.query_scale, 0),
        )
        by_token = ops.transpose(mixed, _int([0, 2, 1, 3]))
        joined = ops.reshape(by_token, _int([0, 0, shape.n_heads * shape.head]), True)
        return self._linear(f"{at}.o_proj", joined)

    def _heads(self, at: str, state: Any) -> list[Any]:
        """Queries, keys and values, each (rows, heads, tokens, head)."""
        counts = {
            "q": self._shape.n_heads,
            "k": self._shape.n_kv_heads,
            "v": self._shape.n_kv_heads,
        }
        if f"{at}.qkv_proj.weight" in self._weights:
            widths = [n_heads * self._shape.head for n_heads in counts.values()]
            parts = _split(self._linear(f"{at}.qkv_proj", state), widths)
        else:
            parts = [self._linear(f"{at}.{part}_proj", state) for part in counts]
        found = []
        for part, (name, n_heads) in zip(parts, counts.items(), strict=True):
            split = ops.reshape(part, _int([0, 0, n_heads, self._shape.head]), True)
            if f"{at}.{name}_norm.weight" in self._weights:
                split = self._norm(f"{at}.{name}_norm", split, rank=4)
            found.append(ops.transpose(split, _int([0, 2, 1, 3])))
        return found

    def _rotated(self, heads: Any, cosine: Any, sine: Any) -> Any:
        n_rotated = int(cosine.get_output_partial_shape(0)[3].get_length())
        rest = []
        if n_rotated < self._shape.head:
            heads, *rest = _split(heads, [n_rotated, self._shape.head - n_rotated])
        half, last = _int([n_rotated // 2]), _int([3])
        first = ops.slice(heads, _int([0]), half, _int([1]), last)
        second = ops.slice(heads, half, _int([END]), _int([1]), last)
        turned = ops.concat([ops.multiply(second, _float(-1.0, 4)), first], -1)
        rotated = ops.add(ops.multiply(heads, cosine), ops.multiply(turned, sine))
        return ops.concat([rotated, *rest], -1) if rest else rotated

    def _with_past(self, name: str, new: Any) -> Any:
        """The keys or values of all tokens: those that the state holds, and new ones."""
        shape = self._shape
        about = op_util.VariableInfo()
        about.data_shape = openvino.PartialShape([-1, shape.n_kv_heads, -1, shape.head])
        about.data_type = openvino.Type.f32
        about.variable_id = f"past_key_values.{name}present.{name}"
        variable = op_util.Variable(about)
        sizes = [self._n_rows, _int([shape.n_kv_heads]), _int([0]), _int([shape.head])]
        empty = ops.broadcast(_float(0.0, 0), ops.concat(sizes, 0))
        past = ops.gather(ops.read_value(empty, variable), self._rows, _int(0))
        whole = ops.concat([past, new], 2)
        self._sinks.append(ops.assign(whole, variable))
        self._variables.append(variable)
        return whole

    def _for_all_heads(self, held: Any) -> Any:
        """Keys or values, repeated for each of the heads that share them."""
        shape = self._shape
        if shape.n_heads == shape.n_kv_heads:
            return held
        each = _int([1, 1, shape.n_heads // shape.n_kv_heads, 1, 1])
        repeated = ops.broadcast(ops.unsqueeze(held, _int(2)), each, broadcast_spec="BIDIRECTIONAL")
        return ops.reshape(repeated, _int([0, shape.n_heads, -1, shape.head]), True)

    def _feed_forward(self, at: str, state: Any) -> Any:
        if f"{at}.gate_up_proj.weight" in self._weights:
            both = self._linear(f"{at}.gate_up_proj", state)
            width = int(both.get_output_partial_shape(0)[2].get_length()) // 2
            gate, passed = _split(both, [width, width])
        else:
            gate = self._linear(f"{at}.gate_proj", state)
            passed = self._linear(f"{at}.up_proj", state)
        gated = ops.multiply(ACTIVATIONS[self._shape.activation](gate), passed)
        return self._linear(f"{at}.down_proj", gated)

    def _linear(self, at: str, state: Any) -> Any:
        product = ops.matmul(state, self._weights.matrix(f"{at}.weight"), False, True)
        if f"{at}.bias" not in self._weights:
            return product
        bias = self._weights.vector(f"{at}.bias")
        return ops.add(product, ops.constant(bias.reshape(1, 1, -1)))

    def _norm(self, at: str, state: Any, rank: int = 3) -> Any:
        mean = ops.reduce_mean(ops.power(state, _float(2.0, rank)), _int([-1]), True)
        spread = ops.sqrt(ops.add(mean, _float(self._shape.epsilon, rank)))
        weights = self._weights.vector(f"{at}.weight").reshape([1] * (rank - 1) + [-1])
        weights = weights + np.float32(self._shape.norm_offset)
        scaled = ops.multiply(ops.divide(_float(1.0, rank), spread), state)
        return ops.multiply(scaled, ops.constant(weights))


def _input(name: str, sizes: list[int], kind: Any) -> Any:
    parameter = ops.parameter(sizes, kind, name=name)
    parameter.output(0).get_tensor().set_names({name})
    return parameter


def _split(node: Any, widths: list[int]) -> list[Any]:
    """Its last axis in parts."""
    parts = ops.variadic_split(node, _int(-1), _int(widths))
    return [parts.output(index) for index in range(len(widths))]


def _int(value: int | list[int]) -> Any:
    return ops.constant(np.array(value, np.int64))


def _float(value: float, rank: int) -> Any:
    return ops.constant(np.full([1] * rank, value, np.float32))
