"""Blocks of the KV cache: shared by forks, copied before a write, and freed in the end."""

from hypothesis import given
from hypothesis import strategies as st

from chat_worker.backends.openvino.blocks import BlockTables
from chat_worker.backends.sizes import BLOCK_TOKENS, n_blocks

N_SLOTS, N_CELLS = 4, 8 * BLOCK_TOKENS
N_BLOCKS = n_blocks(N_CELLS, N_SLOTS)

Operation = tuple[str, int, int, int]
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["extend", "truncate", "fork"]),
        st.integers(0, N_SLOTS - 1),
        st.integers(0, N_SLOTS - 1),
        st.integers(0, N_CELLS),
    ),
    max_size=40,
)


def tables() -> BlockTables:
    return BlockTables(N_SLOTS, N_BLOCKS)


def extend(held: BlockTables, slot: int, end: int) -> tuple[int, int] | None:
    copy = held.reserve(slot, end)
    held.computed(slot, end)
    return copy


class Model:
    """What the cache should hold: the text of each slot, and what is written in each block."""

    def __init__(self) -> None:
        self.held = tables()
        self.texts: list[list[int]] = [[] for _ in range(N_SLOTS)]
        self.written = [[0] * BLOCK_TOKENS for _ in range(N_BLOCKS)]
        self.cells: list[list[int]] = [[] for _ in range(N_SLOTS)]
        self.n_written = 0

    def apply(self, operation: Operation) -> None:
        kind, slot, other, number = operation
        if kind == "extend":
            self.extend(slot, number)
        elif kind == "truncate":
            length = min(number, len(self.texts[slot]))
            self.held.truncate(slot, length)
            del self.texts[slot][length:], self.cells[slot][length:]
        elif slot != other:
            length = min(number, len(self.texts[slot]))
            self.held.fork(slot, other, length)
            self.texts[other] = self.texts[slot][:length]
            self.cells[other] = self.cells[slot][:length]

    def extend(self, slot: int, n_tokens: int) -> None:
        n_used = len({cell for cells in self.cells for cell in cells})
        end = len(self.texts[slot]) + min(n_tokens, N_CELLS - n_used)
        copy = self.held.reserve(slot, end)
        if copy is not None:
            self.written[copy[1]] = list(self.written[copy[0]])
        for at in range(len(self.texts[slot]), end):
            self.n_written += 1
            block = self.held.blocks(slot)[at // BLOCK_TOKENS]
            self.written[block][at % BLOCK_TOKENS] = self.n_written
            self.texts[slot].append(self.n_written)
            self.cells[slot].append(self.n_written)
        self.held.computed(slot, end)

    def read(self, slot: int) -> list[int]:
        whole = [value for block in self.held.blocks(slot) for value in self.written[block]]
        return whole[: self.held.length(slot)]


@given(OPERATIONS)
def test_every_slot_reads_its_own_text_whatever_the_others_write(
    operations: list[Operation],
) -> None:
    model = Model()
    for operation in operations:
        model.apply(operation)
        assert [model.read(slot) for slot in range(N_SLOTS)] == model.texts
    for slot in range(N_SLOTS):
        model.held.truncate(slot, 0)
    assert model.held.n_free == N_BLOCKS


def test_a_fork_takes_no_block_until_one_of_the_two_is_written() -> None:
    held = tables()
    extend(held, 0, 2 * BLOCK_TOKENS + 5)
    n_free = held.n_free
    held.fork(0, 1, BLOCK_TOKENS + 5)
    assert held.n_free == n_free
    shared = held.blocks(1)[1]
    assert extend(held, 1, BLOCK_TOKENS + 6) == (shared, held.blocks(1)[1])
    assert held.n_free == n_free - 1
    assert held.blocks(1)[0] == held.blocks(0)[0]


def test_a_whole_shared_block_is_not_copied() -> None:
    held = tables()
    extend(held, 0, BLOCK_TOKENS)
    held.fork(0, 1, BLOCK_TOKENS)
    assert extend(held, 1, BLOCK_TOKENS + 1) is None


def test_what_is_cut_off_is_free_again() -> None:
    held = tables()
    extend(held, 0, 3 * BLOCK_TOKENS)
    held.truncate(0, BLOCK_TOKENS + 1)
    assert held.n_free == N_BLOCKS - 2
    assert held.length(0) == BLOCK_TOKENS + 1
