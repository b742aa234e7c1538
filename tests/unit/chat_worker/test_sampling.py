"""Sampling against textbook references, by statistics where it draws."""

import numpy as np
import pytest
from numpy.typing import NDArray

from chat_worker.engine.sampling import (
    DegenerateLogits,
    Sampler,
    SamplingParams,
    draw,
    nucleus,
    score,
)

N_DRAWS = 10_000
LOGITS = np.random.default_rng(3).normal(0, 1.5, 50).astype(np.float32)
# 99.99 % quantiles of χ² are below mean + 6 standard deviations for the freedoms used here.
SIGMAS = 6


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    weights: NDArray[np.float64] = np.exp(logits - logits.max())
    weights /= weights.sum()
    return weights


def reference(
    params: SamplingParams, logits: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """The distribution that the parameters define, written plainly."""
    p = softmax((LOGITS.astype(np.float64) if logits is None else logits) / params.temperature)
    if params.top_k:
        p[np.argsort(-p)[params.top_k :]] = 0
        p /= p.sum()
    order = np.argsort(-p)
    n_kept = int(np.searchsorted(np.cumsum(p[order]), params.top_p)) + 1
    p[order[n_kept:]] = 0
    p[p < params.min_p * p.max()] = 0
    p /= p.sum()
    return p


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(),
        SamplingParams(temperature=0.7),
        SamplingParams(temperature=1.8),
        SamplingParams(top_p=0.8),
        SamplingParams(top_k=7),
        SamplingParams(min_p=0.2),
        SamplingParams(temperature=1.3, top_k=20, top_p=0.9, min_p=0.05),
    ],
)
def test_ten_thousand_samples_have_the_distribution_of_the_parameters(
    params: SamplingParams,
) -> None:
    sampler = Sampler(SamplingParams(**{**vars(params), "seed": 11}), [])
    counts = np.bincount(
        [sampler.pick(LOGITS.copy()) for _ in range(N_DRAWS)], minlength=LOGITS.size
    )
    expected = reference(params) * N_DRAWS
    assert not counts[expected == 0].any()
    assert_same_distribution(counts, expected)


def assert_same_distribution(counts: NDArray[np.int64], expected: NDArray[np.float64]) -> None:
    common = expected >= 5
    chi = float(((counts - expected)[common] ** 2 / expected[common]).sum())
    freedom = max(int(common.sum()) - 1, 1)
    assert chi < freedom + SIGMAS * np.sqrt(2 * freedom)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(repetition_penalty=1.6),
        SamplingParams(frequency_penalty=0.9),
        SamplingParams(presence_penalty=1.5),
        SamplingParams(temperature=0.8, top_p=0.9, frequency_penalty=0.5),
    ],
)
def test_ten_thousand_samples_have_the_distribution_that_the_penalties_leave(
    params: SamplingParams,
) -> None:
    prompt, said = [0, 1, 2, 3, 40], [5, 5, 6]
    counts = np.zeros(LOGITS.size, int)
    for seed in range(N_DRAWS):
        sampler = Sampler(SamplingParams(**{**vars(params), "seed": seed}), prompt)
        for token in said:
            forced = np.full(LOGITS.size, -1e9, np.float32)
            forced[token] = 1e9
            assert sampler.pick(forced) == token
        counts[sampler.pick(LOGITS.copy())] += 1
    expected = reference(params, penalised(params, prompt, said)) * N_DRAWS
    assert not counts[expected == 0].any()
    assert_same_distribution(counts, expected)


def penalised(params: SamplingParams, prompt: list[int], said: list[int]) -> NDArray[np.float64]:
    """As CTRL (Keskar et al., 2019) and OpenAI's API reference define the penalties."""
    logits = LOGITS.astype(np.float64)
    for token in {*prompt, *said}:
        factor = params.repetition_penalty
        logits[token] = logits[token] / factor if logits[token] > 0 else logits[token] * factor
    for token in set(said):
        logits[token] -= params.frequency_penalty * said.count(token) + params.presence_penalty
    return logits


def test_temperature_zero_takes_the_best_and_the_first_of_equals() -> None:
    logits = np.zeros(8, np.float32)
    logits[[3, 5]] = 1
    assert Sampler(SamplingParams(temperature=0), []).pick(logits) == 3


def test_a_seed_repeats_its_draws_and_each_choice_has_its_own() -> None:
    def draws(seed: int | None, choice: int) -> list[int]:
        sampler = Sampler(SamplingParams(seed=seed), [], choice)
        return [sampler.pick(LOGITS.copy()) for _ in range(20)]

    assert draws(5, 0) == draws(5, 0)
    assert draws(5, 0) != draws(5, 1)
    assert draws(None, 0) != draws(None, 0)


def test_a_logit_bias_of_minus_a_hundred_bans_and_of_a_hundred_forces_a_token() -> None:
    best = int(LOGITS.argmax())
    banned = Sampler(SamplingParams(temperature=0, logit_bias={best: -100}), [])
    forced = Sampler(SamplingParams(temperature=1, logit_bias={4: 100}), [])
    assert banned.pick(LOGITS.copy()) != best
    assert forced.pick(LOGITS.copy()) == 4


def test_repetition_penalty_acts_on_the_prompt_and_by_sign() -> None:
    logits = np.array([2.0, 1.5, -1.0, -1.5], np.float32)
    params = SamplingParams(temperature=0, repetition_penalty=2.0)
    assert Sampler(params, [0]).pick(logits.copy()) == 1
    sampler = Sampler(params, [0, 1, 2])
    row = logits.copy()
    sampler.pick(row)
    assert row.tolist() == [1.0, 0.75, -2.0, -1.5]


def test_frequency_and_presence_penalties_act_on_the_output_only() -> None:
    params = SamplingParams(temperature=0, frequency_penalty=0.5, presence_penalty=0.25)
    sampler = Sampler(params, [0, 0, 0])
    logits = np.array([1.0, 0.1], np.float32)
    assert [sampler.pick(logits.copy()) for _ in range(3)] == [0, 0, 1]


def test_logits_that_are_not_numbers_are_noticed() -> None:
    for bad in (np.nan, -np.inf):
        with pytest.raises(DegenerateLogits):
            Sampler(SamplingParams(), []).pick(np.full(8, bad, np.float32))


def test_the_nucleus_is_the_smallest_set_that_reaches_its_share() -> None:
    weights = np.array([0.125, 1.0, 0.375, 0.5], np.float32)
    assert nucleus(weights, 0.5).tolist() == [1]
    assert nucleus(weights, 0.51).tolist() == [1, 3]
    assert sorted(nucleus(weights, 1 - 1e-9).tolist()) == [0, 1, 2, 3]
    flat = np.full(5000, 1e-9, np.float32)
    flat[7] = 1
    assert nucleus(flat, 0.9).tolist() == [7]


def test_a_draw_never_lands_on_a_token_without_weight() -> None:
    weights = np.zeros(5000, np.float32)
    weights[[10, 4000]] = 1
    for uniform in (0.0, 0.25, 0.4999, 0.5, 0.75, 1 - 2**-53):
        assert draw(weights, uniform) == (10 if uniform < 0.5 else 4000)


def test_scores_are_those_of_log_softmax() -> None:
    expected = np.log(softmax(LOGITS.astype(np.float64)))
    scored = score(LOGITS, 9, 5)
    assert scored.logprob == pytest.approx(expected[9], abs=1e-5)
    assert [token for token, _ in scored.top] == np.argsort(-expected)[:5].tolist()
    assert [p for _, p in scored.top] == pytest.approx(np.sort(expected)[::-1][:5], abs=1e-5)
