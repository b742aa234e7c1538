"""The dtype and the device that a model is computed with."""

import torch

from chat_worker.backends.transformers import onednn
from chat_worker.pipe_messages import LoadSpec


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype(spec: LoadSpec, stored: torch.dtype | None) -> torch.dtype:
    """The configured dtype, else the checkpoint's own if the device computes it fast.

    Args:
        stored: the checkpoint's dtype; None if it is not stated.
    """
    if spec.torch_dtype != "auto":
        named: torch.dtype = getattr(torch, spec.torch_dtype)
        return named
    if stored not in (torch.float16, torch.bfloat16):
        return torch.float32
    if device().type == "cuda":
        lacks = stored == torch.bfloat16 and not torch.cuda.is_bf16_supported()
        return torch.float16 if lacks else stored
    # Without such instructions, a prompt takes three times as long in bfloat16 as in float32.
    return torch.bfloat16 if onednn.multiplies_bfloat16() else torch.float32
