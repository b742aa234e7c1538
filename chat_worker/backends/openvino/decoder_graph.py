"""Builds the OpenVINO graph of a decoder with RMS norms, rotary positions and gated feed-forwards.

These are Llama, Mistral, Qwen 2 and Qwen 3. The graph has the form in which hubs carry models for
OpenVINO: attention over a state, which the paged-attention transformation rewrites when the model
is loaded. Sources: transformers' `modeling_llama.py` and `modeling_qwen3.py`; the rotary positions
are written so that OpenVINO's `RoPEFusion` recognises them.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as ops
from openvino.op import util as op_util

Floats = NDArray[np.float32]
# Attention's weight of such a score is zero, and it can be stored in 16 bits.
NO_SCORE = -65504.0
END = np.iinfo(np.int64).max


@dataclass(frozen=True)
class DecoderShape:
    """The sizes of a decoder.

    Args:
        head: the width of an attention head.
        epsilon: of the RMS norms.
        frequencies: of the rotary positions, (head / 2,): radians per token.
    """

    n_layers: int
    n_heads: int
    n_kv_heads: int
    head: int
    epsilon: float
    frequencies: Floats


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
        self._mask = self._causal_mask()
        self._cosine, self._sine = self._rotations()

    def model(self) -> openvino.Model:
        table = self._weights.matrix("model.embed_tokens.weight")
        state = ops.gather(table, ops.convert(self._ids, "i32"), _int(0))
        for layer in range(self._shape.n_layers):
            at = f"model.layers.{layer}"
            before = self._norm(f"{at}.input_layernorm", state)
            state = ops.add(state, self._attention(f"{at}.self_attn", layer, before))
            before = self._norm(f"{at}.post_attention_layernorm", state)
            state = ops.add(state, self._feed_forward(f"{at}.mlp", before))
        state = self._norm("model.norm", state)
        is_tied = "lm_head.weight" not in self._weights
        head = table if is_tied else self._weights.matrix("lm_head.weight")
        result = ops.result(ops.matmul(state, head, False, True))
        result.output(0).get_tensor().set_names({"logits"})
        inputs = [self._ids, self._real, self._positions, self._rows]
        return openvino.Model([result], self._sinks, inputs, self._variables, "decoder")

    def _causal_mask(self) -> Any:
        """(rows, 1, tokens, all tokens): 0 where a token may attend, else `NO_SCORE`."""
        n_new = ops.gather(ops.shape_of(self._ids), _int(1), _int(0))
        n_all = ops.gather(ops.shape_of(self._real), _int(1), _int(0))
        keys = ops.range(_int(0), n_all, _int(1), "i64")
        queries = ops.range(ops.subtract(n_all, n_new), n_all, _int(1), "i64")
        is_before = ops.less_equal(ops.unsqueeze(keys, _int(0)), ops.unsqueeze(queries, _int(1)))
        is_real = ops.unsqueeze(ops.convert(self._real, "boolean"), _int([1, 2]))
        attends = ops.logical_and(ops.unsqueeze(is_before, _int([0, 1])), is_real)
        return ops.select(attends, _float(0.0, 0), _float(NO_SCORE, 0))

    def _rotations(self) -> tuple[Any, Any]:
        """The cosines and sines of all positions, each (rows, 1, tokens, head)."""
        frequencies = ops.constant(self._shape.frequencies.reshape(1, -1, 1))
        by_row = ops.concat([self._n_rows, _int([1]), _int([1])], 0)
        spread = ops.broadcast(frequencies, by_row, broadcast_spec="BIDIRECTIONAL")
        positions = ops.convert(ops.unsqueeze(self._positions, _int(1)), "f32")
        angles = ops.transpose(ops.matmul(spread, positions, False, False), _int([0, 2, 1]))
        both = ops.concat([angles, angles], -1)
        return ops.unsqueeze(ops.cos(both), _int(1)), ops.unsqueeze(ops.sin(both), _int(1))

    def _attention(self, at: str, layer: int, state: Any) -> Any:
        shape = self._shape
        queries = self._rotated(self._heads(f"{at}.q", state, shape.n_heads))
        keys = self._rotated(self._heads(f"{at}.k", state, shape.n_kv_heads))
        values = self._heads(f"{at}.v", state, shape.n_kv_heads)
        mixed = ops.scaled_dot_product_attention(
            queries,
            self._for_all_heads(self._with_past(f"{layer}.key", keys)),
            self._for_all_heads(self._with_past(f"{layer}.value", values)),
            self._mask,
        )
        by_token = ops.transpose(mixed, _int([0, 2, 1, 3]))
        joined = ops.reshape(by_token, _int([0, 0, shape.n_heads * shape.head]), True)
        return self._linear(f"{at}.o_proj", joined)

    def _heads(self, at: str, state: Any, n_heads: int) -> Any:
        """Queries, keys or values, (rows, heads, tokens, head)."""
        projected = self._linear(f"{at}_proj", state)
        split = ops.reshape(projected, _int([0, 0, n_heads, self._shape.head]), True)
        if f"{at}_norm.weight" in self._weights:
            split = self._norm(f"{at}_norm", split, rank=4)
        return ops.transpose(split, _int([0, 2, 1, 3]))

    def _rotated(self, heads: Any) -> Any:
        half, last = _int([self._shape.head // 2]), _int([3])
        first = ops.slice(heads, _int([0]), half, _int([1]), last)
        second = ops.slice(heads, half, _int([END]), _int([1]), last)
        turned = ops.concat([ops.multiply(second, _float(-1.0, 4)), first], -1)
        return ops.add(ops.multiply(heads, self._cosine), ops.multiply(turned, self._sine))

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
        gate = ops.swish(self._linear(f"{at}.gate_proj", state))
        gated = ops.multiply(gate, self._linear(f"{at}.up_proj", state))
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
        scaled = ops.multiply(ops.divide(_float(1.0, rank), spread), state)
        return ops.multiply(scaled, ops.constant(weights))


def _input(name: str, sizes: list[int], kind: Any) -> Any:
    parameter = ops.parameter(sizes, kind, name=name)
    parameter.output(0).get_tensor().set_names({name})
    return parameter


def _int(value: int | list[int]) -> Any:
    return ops.constant(np.array(value, np.int64))


def _float(value: float, rank: int) -> Any:
    return ops.constant(np.full([1] * rank, value, np.float32))
