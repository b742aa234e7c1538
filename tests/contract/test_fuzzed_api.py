"""A short run of `python -m tests.fuzzing.api`."""

import time

from tests.fuzzing.api import Limits, run

N_CALLS = 150
ENOUGH_S = 8.0


async def test_what_fuzzed_calls_are_answered_is_described() -> None:
    found = await run(Limits(N_CALLS, time.monotonic() + ENOUGH_S))
    assert found.n_calls
    assert not found.failures, "\n".join(f"{what}\n{how}" for what, how in found.failures.items())
