"""Which number format and device a model is computed with."""

import platform

import torch

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
    return torch.bfloat16 if _cpu_multiplies_bfloat16() else torch.float32


def can_pack(kind: torch.dtype) -> bool:
    """Whether oneDNN multiplies weights of this format on this CPU in an order of its own."""
    if not (_is_x86() and torch.backends.mkldnn.is_available()):
        return False
    return kind == torch.float32 or (kind == torch.bfloat16 and _onednn_knows_bfloat16())


def _cpu_multiplies_bfloat16() -> bool:
    if _is_x86():
        return bool(torch.cpu._is_avx512_bf16_supported())
    return torch.backends.mkldnn.is_available() and _onednn_knows_bfloat16()


def _onednn_knows_bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")
