"""torch's private operators for oneDNN, against its public products and a real model."""

import platform
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from chat_worker.backends.transformers import onednn
from chat_worker.backends.transformers.packed import PackedLinear, pack_linears

KINDS = [kind for kind in (torch.float32, torch.bfloat16) if onednn.can_reorder(kind)]
needs_onednn = pytest.mark.skipif(not KINDS, reason="oneDNN has no order of its own on this CPU")


@needs_onednn
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n_tokens", [1, 7, 64])
@torch.inference_mode()
def test_a_product_with_reordered_weights_is_the_product(
    kind: torch.dtype, bias: bool, n_tokens: int
) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(96, 131, bias=bias, dtype=kind)
    values = torch.randn(1, n_tokens, 96, dtype=kind)
    expected = plain(values)
    packed = onednn.reordered(plain.weight.detach())
    plain.weight.zero_()  # it is not needed any more
    product = onednn.linear(values, packed, plain.bias)
    assert product.dtype == kind
    torch.testing.assert_close(product, expected)


@needs_onednn
@torch.inference_mode()
def test_a_model_whose_layers_are_all_reordered_says_what_it_said(tiny_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32).eval()
    tokens = torch.arange(1, 17)[None]
    expected = model(input_ids=tokens, use_cache=False).logits
    pack_linears(model, torch.float32)
    kinds = {type(module) for module in model.modules()}
    assert PackedLinear in kinds
    assert nn.Linear not in kinds
    torch.testing.assert_close(model(input_ids=tokens, use_cache=False).logits, expected)


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="where the kernel lists them"
)
def test_instructions_for_bfloat16_are_seen_where_the_cpu_has_them() -> None:
    listed = Path("/proc/cpuinfo").read_text().split()
    assert onednn.multiplies_bfloat16() == ("avx512_bf16" in listed)
