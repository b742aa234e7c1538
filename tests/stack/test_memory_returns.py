"""Memory comes back: the model's process is gone after an unload, and its parents do not grow."""

import pytest

from benchmarks.unload import RETURNED, Cycle, cycle, growth_mib
from tests.running_stack import GUIDE, MINILM, RunningStack

CYCLES = 3
# Of a first few loads, which still fill tables; `bench unload` looks at many.
GROWTH_MIB = 8.0


@pytest.mark.parametrize(
    ("model", "module"),
    [(GUIDE, "chat_worker.engine_process"), (MINILM, "embed_worker.encoder_process")],
)
def test_an_unload_gives_back_what_the_load_took(
    stack: RunningStack, model: str, module: str
) -> None:
    cycles: list[Cycle] = []
    for _ in range(CYCLES):
        cycles.append(cycle(stack, model))
        assert not stack.find(module)
    assert cycles[-1].returned >= RETURNED
    assert growth_mib(cycles) <= GROWTH_MIB
