"""torch's device, the batches that suit it, and the meaning of its errors."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from embed_worker.engine.runner import BatchFailed

# On two cores all-MiniLM-L6-v2 is as fast with 512 as with 2,048, and short requests wait less
# for the running batch; a GPU needs larger batches.
CPU_BATCH_TOKENS = 512
GPU_BATCH_TOKENS = 16_384


def torch_device(wanted: str) -> str:
    """`wanted`, or the best available device for "auto"."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def batch_tokens(device: torch.device) -> int:
    """The padded tokens of a micro-batch."""
    return CPU_BATCH_TOKENS if device.type == "cpu" else GPU_BATCH_TOKENS


@contextmanager
def computing(n_threads: Callable[[], int]) -> Iterator[None]:
    """Uses so many threads, and converts torch's errors.

    Args:
        n_threads: evaluated at the beginning.
    Raises:
        BatchFailed: torch cannot compute this batch, but perhaps others.
        torch.AcceleratorError: the GPU computes nothing more for this process, which must end.
    """
    if (count := n_threads()) != torch.get_num_threads():
        # torch keeps this number for each thread.
        torch.set_num_threads(count)
    try:
        yield
    except torch.AcceleratorError:
        raise
    except (RuntimeError, ValueError, LookupError, TypeError, MemoryError) as error:
        raise BatchFailed from error
