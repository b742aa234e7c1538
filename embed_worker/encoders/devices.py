"""Where torch runs, and what suits it there."""

import torch

# On two cores all-MiniLM-L6-v2 is as fast with 512 as with 2,048, and short requests wait less
# for the running batch; a GPU wants larger ones.
CPU_BATCH_TOKENS = 512
GPU_BATCH_TOKENS = 16_384
# What torch raises when it cannot compute a batch.
RUN_ERRORS = (RuntimeError, ValueError, LookupError, TypeError, MemoryError)


def torch_device(wanted: str) -> str:
    """`wanted`, or the best there is for "auto"."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def batch_tokens(device: torch.device) -> int:
    """Padded tokens of a micro-batch."""
    return CPU_BATCH_TOKENS if device.type == "cpu" else GPU_BATCH_TOKENS
