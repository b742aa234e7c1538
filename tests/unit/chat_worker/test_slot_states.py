"""What every backend's copies of slots promise to the prefix cache."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat_worker.backend import Backend
from chat_worker.engine.runner import ForkSlot, ScheduledTokens, TruncateSlot
from chat_worker.engine.sampling import Sampler, SamplingParams
from chat_worker.engine.sequence import Sequence
from chat_worker.pipe_messages import LoadSpec

TOLERANCE = 1e-3
TOKENS = [int(token) for token in np.random.default_rng(0).integers(2, 60, 75)]
MORE = [7, 8, 9]


def load(name: str, path: Path, converted: Path) -> Backend:
    changed: dict[str, dict[str, Any]] = {
        "llama.cpp, no flash attention": {"flash_attention": False},
        "transformers": {"torch_dtype": "float32"},
        "openvino": {"precision": "f32"},
        "openvino, 8-bit cache": {"precision": "f32", "kv_type": "q8_0"},
    }
    backend = name.partition(",")[0]
    spec = LoadSpec(
        backend=backend,
        path=str(path),
        n_ctx=256,
        converted_dir=str(converted),
        **changed.get(name, {}),
    )
    match backend:
        case "llama.cpp":
            from chat_worker.backends.llama_cpp.load import load as load_gguf

            return load_gguf(spec, lambda fraction: None)
        case "transformers":
            from chat_worker.backends.transformers.load import load as load_folder

            return load_folder(spec, lambda fraction, stage: None)
        case _:
            from chat_worker.backends.openvino.load import load as load_converted

            return load_converted(spec, lambda fraction, stage: None)


KINDS = (
    *("llama.cpp", "llama.cpp, no flash attention"),
    *("transformers", "openvino", "openvino, 8-bit cache"),
)


@pytest.fixture(params=KINDS)
def backend(
    request: pytest.FixtureRequest, tiny_gguf: Path, tiny_folder: Path, converted_dir: Path
) -> Iterator[Backend]:
    path = tiny_folder if request.param == "transformers" else tiny_gguf
    loaded = load(request.param, path, converted_dir)
    yield loaded
    loaded.runner.close()


def compute(backend: Backend, tokens: list[int], slot: int, start: int) -> Any:
    sampler = Sampler(SamplingParams(), [])
    sequence = Sequence(call_id=0, choice=0, tokens=tokens, limit=256, sampler=sampler)
    item = ScheduledTokens(sequence, slot, start, len(tokens) - start, 1)
    return backend.runner.run([item])[0].copy()


def test_a_restored_slot_goes_on_as_the_one_that_was_saved(backend: Backend) -> None:
    assert backend.states is not None
    compute(backend, TOKENS, 0, 0)
    state = backend.states.save(0, len(TOKENS))
    assert state is not None
    assert backend.states.size(0, len(TOKENS)) >= state.nbytes / 2
    expected = compute(backend, TOKENS + MORE, 0, len(TOKENS))
    # Where other tokens were, and after the cache's memory was freed.
    backend.runner.apply(TruncateSlot(0, 0))
    backend.runner.shed()
    compute(backend, TOKENS[::-1], 1, 0)
    assert backend.states.restore(state, 2)
    assert backend.runner.length(2) == len(TOKENS)
    found = compute(backend, TOKENS + MORE, 2, len(TOKENS))
    assert np.abs(found - expected).max() < TOLERANCE
    # A part of it serves as well.
    expected = compute(backend, TOKENS[:40] + MORE, 3, 0)
    backend.runner.apply(TruncateSlot(2, 40))
    found = compute(backend, TOKENS[:40] + MORE, 2, 40)
    assert np.abs(found - expected).max() < max(TOLERANCE, 0.02 * np.abs(expected).max())


def test_a_state_of_another_layout_is_refused(tiny_gguf: Path, converted_dir: Path) -> None:
    one = load("openvino", tiny_gguf, converted_dir)
    other = load("openvino, 8-bit cache", tiny_gguf, converted_dir)
    assert one.states is not None
    assert other.states is not None
    compute(one, TOKENS, 0, 0)
    state = one.states.save(0, len(TOKENS))
    assert state is not None
    for bad in (state[:8], state[:-1]):
        assert not one.states.restore(bad, 1)
        one.runner.apply(TruncateSlot(1, 0))
    assert not other.states.restore(state, 1)
    one.runner.close()
    other.runner.close()


def test_a_copied_slot_holds_the_copy_whatever_happens_to_its_source(backend: Backend) -> None:
    """Before the next step: llama.cpp puts copies between slots with cells of their own off, and
    one request read another's prompt."""
    assert backend.states is not None
    compute(backend, TOKENS[::-1], 0, 0)
    other = backend.states.save(0, len(TOKENS))
    assert other is not None
    expected = compute(backend, TOKENS + MORE, 2, 0)
    for op in (TruncateSlot(2, len(TOKENS)), ForkSlot(2, 1, len(TOKENS)), TruncateSlot(2, 0)):
        backend.runner.apply(op)
    assert backend.states.restore(other, 2)
    found = compute(backend, TOKENS + MORE, 1, len(TOKENS))
    assert np.abs(found - expected).max() < max(TOLERANCE, 0.02 * np.abs(expected).max())


def test_a_copied_slot_can_be_saved_at_once(backend: Backend) -> None:
    assert backend.states is not None
    expected = compute(backend, TOKENS + MORE, 2, 0)
    for op in (TruncateSlot(2, len(TOKENS)), ForkSlot(2, 1, len(TOKENS))):
        backend.runner.apply(op)
    copy = backend.states.save(1, len(TOKENS))
    assert copy is not None
    assert backend.runner.length(1) == len(TOKENS)
    assert backend.states.restore(copy, 0)
    found = compute(backend, TOKENS + MORE, 0, len(TOKENS))
    assert np.abs(found - expected).max() < max(TOLERANCE, 0.02 * np.abs(expected).max())
