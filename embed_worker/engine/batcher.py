"""Which of the waiting texts run together: a pure function over their lengths.

All texts of a batch are padded to the longest, so a batch costs rows × longest tokens. Small
budgets win on CPUs: they keep the work in the caches and waste little on padding.
"""

from collections.abc import Sequence


def pack(lengths: Sequence[int], *, max_tokens: int, max_rows: int) -> list[int]:
    """Choose a batch that holds the first text, filled up with those closest to it in length.

    Args:
        lengths: tokens of each waiting text, the longest-waiting first.
        max_tokens: padded tokens of the batch; one text alone may be longer.
        max_rows: texts of the batch.
    Returns:
        Indices into `lengths`, the first of them 0.
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
