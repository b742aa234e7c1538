"""Which blocks of the KV cache hold which slot: shared by forks, copied when one of them is
written.

A block holds the keys and values of `BLOCK_TOKENS` tokens. The last block of a slot is partly
filled. Only bookkeeping; source of the idea: https://arxiv.org/abs/2309.06180 (paged attention).
"""

from array import array

from chat_worker.backends.sizes import BLOCK_TOKENS


class NoBlocks(Exception):
    """More tokens than the cache was made for."""


class BlockTables:
    """The blocks of each slot, in the order of its tokens.

    Args:
        n_blocks: of the whole cache, see `sizes.n_blocks`.
    """

    def __init__(self, n_slots: int, n_blocks: int) -> None:
        self._tables: list[list[int]] = [[] for _ in range(n_slots)]
        self._lengths = [0] * n_slots
        self._n_references = array("H", bytes(2 * n_blocks))
        self._free = list(range(n_blocks - 1, -1, -1))

    @property
    def n_free(self) -> int:
        return len(self._free)

    def length(self, slot: int) -> int:
        """The tokens that the slot holds."""
        return self._lengths[slot]

    def blocks(self, slot: int) -> list[int]:
        return self._tables[slot]

    def truncate(self, slot: int, length: int) -> None:
        table = self._tables[slot]
        n_kept = _n_blocks_of(length)
        for block in table[n_kept:]:
            self._release(block)
        del table[n_kept:]
        self._lengths[slot] = min(length, self._lengths[slot])

    def fork(self, source: int, target: int, length: int) -> None:
        """Let `target`, which is empty, share the first `length` tokens of `source`."""
        self.truncate(target, 0)
        shared = self._tables[source][: _n_blocks_of(length)]
        for block in shared:
            self._n_references[block] += 1
        self._tables[target] = shared
        self._lengths[target] = length

    def reserve(self, slot: int, end: int) -> tuple[int, int] | None:
        """Give the slot blocks of its own for the tokens from its length to `end`.

        Returns:
            The block whose contents must be copied, and the block to copy them to: the last one was
            shared and is about to be written. None if nothing is to be copied.
        Raises:
            NoBlocks: there are not enough free ones.
        """
        table, length = self._tables[slot], self._lengths[slot]
        copy = None
        last = length // BLOCK_TOKENS
        if length % BLOCK_TOKENS and self._n_references[table[last]] > 1:
            copy = table[last], self._take()
            self._release(copy[0])
            table[last] = copy[1]
        while len(table) < _n_blocks_of(end):
            table.append(self._take())
        return copy

    def computed(self, slot: int, end: int) -> None:
        """The slot holds the tokens up to `end` from now on."""
        self._lengths[slot] = end

    def _take(self) -> int:
        if not self._free:
            raise NoBlocks
        block = self._free.pop()
        self._n_references[block] = 1
        return block

    def _release(self, block: int) -> None:
        self._n_references[block] -= 1
        if not self._n_references[block]:
            self._free.append(block)


def _n_blocks_of(n_tokens: int) -> int:
    return -(-n_tokens // BLOCK_TOKENS)
