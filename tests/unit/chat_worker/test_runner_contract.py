"""What every runner promises; the same tests run against the fake one and the real ones."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from chat_worker.backends.llama_cpp.load import load
from chat_worker.engine.runner import ForkSlot, ModelRunner, ScheduledTokens, TruncateSlot
from chat_worker.engine.sampling import LogitsRow, Sampler, SamplingParams
from chat_worker.engine.sequence import Sequence
from chat_worker.pipe_messages import LoadSpec
from tests.unit.chat_worker.fake_runner import FakeRunner, limits

N_NEW = 24
TOLERANCE = 1e-3


def llama_runner(path: Path, n_cells: int, *, flash_attention: bool = True) -> ModelRunner:
    spec = LoadSpec(
        backend="llama.cpp",
        path=str(path),
        n_ctx=512,
        n_parallel=8,
        n_cells=n_cells,
        flash_attention=flash_attention,
    )
    return load(spec, lambda fraction: None).runner


def transformers_runner(path: Path) -> ModelRunner:
    from chat_worker.backends.transformers.load import load as load_folder

    spec = LoadSpec(
        backend="transformers", path=str(path), n_ctx=512, n_parallel=4, torch_dtype="float32"
    )
    return load_folder(spec, lambda fraction, stage: None).runner


def openvino_runner(path: Path, converted: Path, kv_type: Literal["f16", "q8_0"]) -> ModelRunner:
    from chat_worker.backends.openvino.load import load as load_converted

    spec = LoadSpec(
        backend="openvino",
        path=str(path),
        n_ctx=512,
        n_parallel=4,
        precision="f32",
        kv_type=kv_type,
        converted_dir=str(converted),
    )
    return load_converted(spec, lambda fraction, stage: None).runner


KINDS = (
    *("fake", "llama.cpp", "llama.cpp, one pool", "llama.cpp without flash attention"),
    *("transformers", "openvino"),
)


@pytest.fixture(params=KINDS)
def runner(request: pytest.FixtureRequest) -> Iterator[ModelRunner]:
    match request.param:
        case "openvino":
            made = openvino_runner(
                request.getfixturevalue("tiny_folder"),
                request.getfixturevalue("converted_dir"),
                "f16",
            )
        case "llama.cpp":
            made = llama_runner(request.getfixturevalue("tiny_gguf"), 8 * 512)
        case "llama.cpp, one pool":
            made = llama_runner(request.getfixturevalue("tiny_gguf"), 4 * 512)
        case "llama.cpp without flash attention":
            path = request.getfixturevalue("tiny_gguf")
            made = llama_runner(path, 8 * 512, flash_attention=False)
        case "transformers":
            made = transformers_runner(request.getfixturevalue("tiny_folder"))
        case _:
            made = FakeRunner(limits(n_batch=256))
    yield made
    made.close()


def sequence(tokens: list[int]) -> Sequence:
    sampler = Sampler(SamplingParams(temperature=0), [])
    return Sequence(call_id=0, choice=0, tokens=list(tokens), limit=512, sampler=sampler)


def prompt(seed: int, length: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(2, 60, length)]


def compute(runner: ModelRunner, tokens: list[int], slot: int, start: int = 0) -> LogitsRow:
    """Logits after `tokens`, of which the slot holds the first `start`."""
    item = ScheduledTokens(sequence(tokens), slot, start, len(tokens) - start, 1)
    return runner.run([item])[0].copy()


def compute_alone(runner: ModelRunner, prompts: list[list[int]]) -> list[LogitsRow]:
    """The logits after each prompt when nothing else is computed; the slots are empty again."""
    rows = []
    for tokens in prompts:
        rows.append(compute(runner, tokens, 0))
        runner.apply(TruncateSlot(0, 0))
    return rows


def greedy(runner: ModelRunner, tokens: list[int], slot: int, start: int = 0) -> list[int]:
    tokens = list(tokens)
    n_held = start
    for _ in range(N_NEW):
        row = compute(runner, tokens, slot, n_held)
        n_held = len(tokens)
        tokens.append(int(row.argmax()))
    return tokens


def test_logits_do_not_depend_on_what_else_is_in_the_batch(runner: ModelRunner) -> None:
    prompts = [prompt(i, 5 + 3 * i) for i in range(4)]
    alone = compute_alone(runner, prompts)
    items = [ScheduledTokens(sequence(p), slot, 0, len(p), 1) for slot, p in enumerate(prompts)]
    together = [row.copy() for row in runner.run(items)]
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one - other).max() < TOLERANCE
    # And in decoding, beside a prompt chunk.
    nexts = [[*p, int(row.argmax())] for p, row in zip(prompts, together, strict=True)]
    mixed = [ScheduledTokens(sequence(p), slot, len(p) - 1, 1, 1) for slot, p in enumerate(nexts)]
    mixed.append(ScheduledTokens(sequence(prompt(9, 30)), 5, 0, 30, 0))
    rows = [row.copy() for row in runner.run(mixed)]
    for tokens, row in zip(nexts, rows, strict=True):
        assert np.abs(compute(runner, tokens, 6) - row).max() < TOLERANCE
        runner.apply(TruncateSlot(6, 0))


def test_rows_come_in_the_order_of_the_items_however_long_each_is(runner: ModelRunner) -> None:
    # Longer than a tile of llama.cpp's attention, so that it is computed apart from the others.
    prompts = [prompt(1, 5), prompt(2, 70), prompt(3, 8), prompt(4, 66)]
    alone = compute_alone(runner, prompts)
    items = [ScheduledTokens(sequence(p), slot, 0, len(p), 1) for slot, p in enumerate(prompts)]
    for one, other in zip(alone, runner.run(items), strict=True):
        assert np.abs(one - other).max() < TOLERANCE


def test_chunked_prompts_give_the_logits_of_whole_ones(runner: ModelRunner) -> None:
    tokens = prompt(1, 40)
    whole = compute(runner, tokens, 0)
    one = sequence(tokens)
    for start, n_tokens in ((0, 7), (7, 1), (8, 20)):
        assert runner.run([ScheduledTokens(one, 1, start, n_tokens, 0)]) == []
    (row,) = runner.run([ScheduledTokens(one, 1, 28, 12, 1)])
    assert np.abs(whole - row).max() < TOLERANCE


def test_every_row_of_a_chunk_is_that_of_its_prefix(runner: ModelRunner) -> None:
    tokens = prompt(2, 12)
    rows = [row.copy() for row in runner.run([ScheduledTokens(sequence(tokens), 0, 0, 12, 12)])]
    for length in (1, 5, 12):
        assert np.abs(compute(runner, tokens[:length], 1) - rows[length - 1]).max() < TOLERANCE
        runner.apply(TruncateSlot(1, 0))


def test_a_truncated_slot_continues_as_if_nothing_had_followed(runner: ModelRunner) -> None:
    tokens = prompt(3, 20)
    fresh = greedy(runner, tokens, 0)
    compute(runner, [*tokens[:15], *prompt(4, 20)], 1)
    runner.apply(TruncateSlot(1, 15))
    assert runner.length(1) == 15
    assert greedy(runner, tokens, 1, 15) == fresh


def test_a_fork_shares_its_source_and_both_go_their_own_way(runner: ModelRunner) -> None:
    shared = prompt(5, 20)
    left, right = [*shared, *prompt(6, 3)], [*shared, *prompt(7, 3)]
    expected = [greedy(runner, left, 0), greedy(runner, right, 1)]
    compute(runner, left, 2)
    runner.apply(ForkSlot(2, 3, len(shared)))
    assert runner.length(3) == len(shared)
    assert greedy(runner, right, 3, len(shared)) == expected[1]
    runner.apply(TruncateSlot(2, len(left) - 1))
    assert greedy(runner, left, 2, len(left) - 1) == expected[0]


def test_an_emptied_slot_has_no_length(runner: ModelRunner) -> None:
    compute(runner, prompt(8, 5), 0)
    assert runner.length(0) == 5
    runner.apply(TruncateSlot(0, 0))
    assert runner.length(0) == 0


def test_what_was_shed_is_computed_again_to_the_same(runner: ModelRunner) -> None:
    tokens = prompt(3, 20)
    before = greedy(runner, tokens, 0)
    runner.apply(TruncateSlot(0, 0))
    runner.shed()
    assert runner.length(0) == 0
    runner.apply(TruncateSlot(0, 0))
    runner.shed()
    assert greedy(runner, tokens, 1) == before


@pytest.fixture(scope="module")
def plain_greedy(tiny_gguf: Path) -> Callable[[list[int]], list[int]]:
    """A loop over llama.cpp's own one-sequence calls: the reference."""
    import ctypes

    from worker_runtime.llama_native import load_native

    native = load_native()
    model = native.llama_model_load_from_file(
        str(tiny_gguf).encode(), native.llama_model_default_params()
    )
    params = native.llama_context_default_params()
    params.n_ctx = 512

    def generate(tokens: list[int]) -> list[int]:
        context = native.llama_init_from_model(model, params)
        tokens, fresh = list(tokens), list(tokens)
        for _ in range(N_NEW):
            array = (ctypes.c_int32 * len(fresh))(*fresh)
            assert native.llama_decode(context, native.llama_batch_get_one(array, len(fresh))) == 0
            logits = native.llama_get_logits_ith(context, -1)
            fresh = [int(np.ctypeslib.as_array(logits, (1024,)).argmax())]
            tokens += fresh
        native.llama_free(context)
        return tokens

    return generate


def test_llama_cpp_gives_the_text_of_its_own_plain_loop(
    tiny_gguf: Path, plain_greedy: Callable[[list[int]], list[int]]
) -> None:
    runner = llama_runner(tiny_gguf, 8 * 512)
    for seed in range(3):
        tokens = prompt(seed, 10 + seed)
        assert greedy(runner, tokens, seed) == plain_greedy(tokens)
    runner.close()
