"""Chooses which waiting texts run together: a pure function of their lengths.

All texts of a batch are padded to the longest, so a batch costs rows × longest tokens. Small
batches are faster on CPUs: their data stays in the caches, and they need little padding.
"""

from collections.abc import Sequence


def pack(lengths: Sequence[int], *, max_tokens: int, max_rows: int) -> list[int]:
    """Choose a batch with the first text, and with those closest to it in length.

    Args:
        lengths: tokens of each waiting text, in the order of arrival.
        max_tokens: padded tokens of the batch; a single text may be longer.
        max_rows: texts of the batch.
    Returns:
        Indices into `lengths`; the first is 0.
    """
    first = lengths[0]
    chosen = [0]
    longest = first
    for index in sorted(range(1, len(lengths)), key=lambda i: abs(lengths[i] - first)):
        if len(chosen) == max_rows:
            break
        padded = max(longest, lengths[index])
        if padded * (len(chosen) + 1) <= max_tokens:
            chosen.append(index)
            longest = padded
    return chosen
