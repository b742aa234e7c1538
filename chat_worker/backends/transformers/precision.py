"""Which number format and device a model is computed with."""

import torch

from chat_worker.backends.transformers import onednn
from chat_worker.pipe_messages import LoadSpec


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype(spec: LoadSpec, stored: torch.dtype | None) -> torch.dtype:
    """What was set, else the checkpoint's own as far as the device is good at it.

    Args:
        stored: None if the checkpoint does not say.
    """
    if spec.torch_dtype != "auto":
        named: torch.dtype = getattr(torch, spec.torch_dtype)
        return named
    if stored not in (torch.float16, torch.bfloat16):
        return torch.float32
    if device().type == "cuda":
        lacks = stored == torch.bfloat16 and not torch.cuda.is_bf16_supported()
        return torch.float16 if lacks else stored
    # Without such instructions bfloat16 takes three times as long for a prompt as float32 does.
    return torch.bfloat16 if onednn.multiplies_bfloat16() else torch.float32
