"""The transformers runner beside the plain model: the same numbers, whatever shares the batch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.make_qwen_shape import TINY
from chat_worker.backends.transformers.load import load
from chat_worker.backends.transformers.precision import device
from chat_worker.backends.transformers.runner import TransformersRunner
from chat_worker.engine.runner import (
    ForkSlot,
    ModelRunner,
    RunFailed,
    ScheduledTokens,
    TruncateSlot,
)
from chat_worker.engine.sampling import LogitsRow, Sampler, SamplingParams, score
from chat_worker.engine.sequence import Sequence
from chat_worker.pipe_messages import LoadSpec

N_SLOTS = 8
N_CTX = 512
TOLERANCE = 1e-3


def loaded(folder: Path) -> ModelRunner:
    spec = LoadSpec(backend="transformers", path=str(folder), n_ctx=N_CTX, torch_dtype="float32")
    return load(spec, lambda fraction, stage: None).runner


@pytest.fixture(scope="module")
def runner(tiny_folder: Path) -> Iterator[ModelRunner]:
    made = loaded(tiny_folder)
    yield made
    made.close()


class Plain:
    """transformers' own forward over one whole sequence."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._known: dict[tuple[int, ...], LogitsRow] = {}

    @torch.inference_mode()
    def rows(self, tokens: list[int]) -> LogitsRow:
        key = tuple(tokens)
        if key not in self._known:
            ids = torch.tensor([tokens], device=self._model.device)
            self._known[key] = self._model(input_ids=ids, use_cache=False).logits[0].cpu().numpy()
        return self._known[key]


@pytest.fixture(scope="module")
def plain(tiny_folder: Path) -> Plain:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    return Plain(model.eval().to(device()))


def item(slot: int, held: list[int], new: list[int], n_rows: int) -> ScheduledTokens:
    sampler = Sampler(SamplingParams(temperature=0), [])
    sequence = Sequence(call_id=0, choice=0, tokens=held + new, limit=N_CTX, sampler=sampler)
    return ScheduledTokens(sequence, slot, len(held), len(new), n_rows)


SLOTS = st.integers(0, N_SLOTS - 1)
ADDED = st.tuples(SLOTS, st.sampled_from([1, 1, 1, 2, 7, 40]), st.integers(0, 2))
STEPS = st.one_of(
    st.lists(ADDED, min_size=1, max_size=5, unique_by=lambda added: added[0]),
    st.tuples(SLOTS, st.floats(0, 1)),
    st.tuples(SLOTS, SLOTS, st.floats(0, 1)),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEPS, min_size=1, max_size=12), seed=st.integers(0, 99))
def test_any_mix_of_chunks_decodes_forks_and_cuts_gives_the_plain_models_logits(
    steps: list[Any], seed: int, runner: ModelRunner, plain: Plain
) -> None:
    random = np.random.default_rng(seed)
    held: list[list[int]] = [[] for _ in range(N_SLOTS)]
    for step in steps:
        match step:
            case list(added):
                _run(runner, plain, held, added, random)
            case (slot, share):
                _cut(runner, held, slot, int(share * len(held[slot])))
            case (source, target, share) if source != target:
                _cut(runner, held, target, 0)
                length = int(share * len(held[source]))
                runner.apply(ForkSlot(source, target, length))
                held[target] = held[source][:length]
        assert [runner.length(slot) for slot in range(N_SLOTS)] == list(map(len, held))
    for slot in range(N_SLOTS):
        runner.apply(TruncateSlot(slot, 0))


def _run(
    runner: ModelRunner,
    plain: Plain,
    held: list[list[int]],
    added: list[tuple[int, int, int]],
    random: np.random.Generator,
) -> None:
    items = []
    for slot, n_tokens, n_rows in added:
        new = [int(token) for token in random.integers(1, TINY.n_vocab, n_tokens)]
        items.append(item(slot, held[slot], new, min(n_rows, n_tokens)))
        held[slot] = held[slot] + new
    rows = list(runner.run(items))
    for computed in items:
        expected = plain.rows(held[computed.slot])
        for at in range(len(expected) - computed.n_rows, len(expected)):
            assert np.abs(rows.pop(0) - expected[at]).max() < TOLERANCE
    assert not rows


def _cut(runner: ModelRunner, held: list[list[int]], slot: int, length: int) -> None:
    runner.apply(TruncateSlot(slot, length))
    held[slot] = held[slot][:length]


def test_log_probabilities_are_those_of_transformers(runner: ModelRunner, plain: Plain) -> None:
    tokens = list(range(5, 45))
    rows = runner.run([item(0, [], tokens, len(tokens))])
    expected = torch.from_numpy(plain.rows(tokens)).log_softmax(-1)
    for at, token in enumerate(tokens[1:]):
        scored = score(rows[at], token, 3)
        assert scored.logprob == pytest.approx(float(expected[at, token]), abs=TOLERANCE)
        best = expected[at].topk(3)
        assert [token for token, _ in scored.top] == best.indices.tolist()
    runner.apply(TruncateSlot(0, 0))


def test_a_cut_slot_gives_its_memory_back(runner: ModelRunner) -> None:
    assert isinstance(runner, TransformersRunner)
    tokens = [1 + i % 900 for i in range(400)]
    runner.run([item(0, [], tokens, 0)])
    full = runner.cache_bytes
    runner.apply(TruncateSlot(0, 10))
    assert 0 < runner.cache_bytes < full / 2
    runner.apply(TruncateSlot(0, 0))
    assert runner.cache_bytes == 0


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(
            item(0, [], [TINY.n_vocab], 1),
            id="token",
            marks=pytest.mark.skipif(device().type != "cpu", reason="costs the process its GPU"),
        ),
        pytest.param(item(0, [1, 2, 3], [4], 1), id="start"),
    ],
)
def test_nothing_counts_of_a_step_that_torch_cannot_compute(
    broken: ScheduledTokens, runner: ModelRunner, plain: Plain
) -> None:
    with pytest.raises(RunFailed):
        runner.run([item(1, [], [3, 4], 1), broken])
    for slot in (0, 1):
        assert runner.length(slot) == 0
        runner.apply(TruncateSlot(slot, 0))
    (row,) = runner.run([item(1, [], [3, 4], 1)])
    assert np.abs(row - plain.rows([3, 4])[-1]).max() < TOLERANCE
    runner.apply(TruncateSlot(1, 0))


def test_a_batch_of_nothing_but_prompt_needs_no_rows(runner: ModelRunner) -> None:
    assert runner.run([item(0, [], [1, 2, 3], 0)]) == []
    runner.apply(TruncateSlot(0, 0))


def test_a_lost_gpu_is_no_failure_of_the_batch(runner: ModelRunner) -> None:
    """Nothing can be computed after it: the process has to end, and another to begin."""

    class Lost:
        device = torch.device("cpu")

        def __call__(self, **inputs: Any) -> None:
            raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    lost = TransformersRunner(Lost(), runner.limits, lambda: 1)
    with pytest.raises(torch.AcceleratorError):
        lost.run([item(0, [], [1], 1)])
