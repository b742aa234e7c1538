"""The measured costs of steps outlive the process, for the same model on the same machine only."""

import json
import os
from pathlib import Path

import msgspec
import pytest

from chat_worker.engine import kept_costs
from chat_worker.engine.kept_costs import CostsFile, KeptCosts, MeasuredCosts
from chat_worker.engine.scheduler import Scheduler
from chat_worker.engine_process import COSTS
from tests.unit.chat_worker.engine_pipe import EXIT_WITHIN_S, EnginePipe
from tests.unit.chat_worker.scheduling import sequence
from tests.unit.chat_worker.simulated_machines import MACHINES, Machine, slots
from tests.unit.chat_worker.test_disk_prefix_cache import ask, loaded
from worker_runtime.engine_process import protocol
from worker_runtime.weight_buffers import expected_products

SOME = MeasuredCosts([(16.0, 64.0, 0.25, 0.5)], 64, 0.5, {1: 0.02, 4: 0.05})


def run(scheduler: Scheduler, machine: Machine, n_prompt: int, token: int) -> list[tuple[int, int]]:
    """One request to its end; the steps' tokens of prompts and answers."""
    one = sequence([token] * n_prompt, n_new=3)
    scheduler.add(one)
    steps = []
    while len(one.tokens) < one.limit:
        plan, _ = scheduler.schedule()
        prompts = [(item.n_tokens, item.start) for item in plan.items if item.n_tokens > 1]
        n_answers = len(plan.items) - len(prompts)
        scheduler.commit(plan.items, machine.seconds(prompts, n_answers))
        steps.append((sum(n for n, _ in prompts), n_answers))
        if one.n_pending == 0:
            one.tokens.append(7)
    scheduler.remove(one)
    return steps


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_a_second_load_plans_as_the_first_one_ended(machine: Machine, tmp_path: Path) -> None:
    bounds = slots(splits=machine.splits)
    first = Scheduler(bounds)
    run(first, machine, 3000, token=4)
    for token, n_prompt in enumerate((900, 200, 2500), start=5):
        run(first, machine, n_prompt, token)
    KeptCosts(tmp_path, "a").write(first.costs.measured)
    second = Scheduler(bounds, known=KeptCosts(tmp_path, "a").read())
    plan = run(second, machine, 3000, token=9)
    assert plan == run(first, machine, 3000, token=9)


def test_a_real_engine_keeps_what_it_learnt_for_the_next_one(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    learnt = {"kept_folder": "", "learnt_folder": str(tmp_path)}

    def after_a_load(**changed: object) -> MeasuredCosts:
        with loaded(tiny_gguf, tmp_path, **learnt, **changed) as pipe:
            ask(pipe, "tell me a long story " * 8)
        newest = max((tmp_path / COSTS).iterdir(), key=lambda path: path.stat().st_mtime_ns)
        return msgspec.json.decode(newest.read_bytes(), type=CostsFile).costs

    first = after_a_load()
    assert first.steps
    assert first.answers
    # What the model was used for decides how the next load stores its weights.
    assert first.products[64] * 64 > 8
    assert first.products[1] > 1
    second = after_a_load()
    assert second.steps[: len(first.steps)] == first.steps
    assert second.products[1] > first.products[1]
    # Loaded otherwise, or another file: nothing is known.
    assert after_a_load(n_ubatch=128).steps[:1] != first.steps[:1]
    assert after_a_load(fingerprint="other").steps[:1] != first.steps[:1]


def test_the_order_of_weights_is_chosen_for_what_the_model_was_used_for(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    told = tmp_path / "told.json"

    def after_a_load() -> dict[int, float]:
        env = {"TOLD": str(told)}
        with EnginePipe("tests.unit.chat_worker.telling_engine", env) as pipe:
            assert isinstance(pipe.load(tiny_gguf, learnt_folder=str(tmp_path)), protocol.Loaded)
            ask(pipe, "tell me a long story " * 8)
            pipe.send(protocol.Stop())
            assert pipe.process.wait(EXIT_WITHIN_S) == 0
        return dict(json.loads(told.read_text()))

    assert after_a_load() == expected_products({})
    usual, second = expected_products({}), after_a_load()
    assert second[64] > usual[64]
    assert second[1] > usual[1]


def foreign(text: str) -> str:
    return text.replace('"identity":"a"', '"identity":"b"')


@pytest.mark.parametrize(
    "spoil",
    [
        foreign,
        lambda text: text.replace('"version":1', '"version":99'),
        lambda text: text.replace("0.02", "-0.02"),
        lambda text: text.replace("0.02", "1e300"),
        lambda text: text[: len(text) // 2],
        lambda text: "\udcff",
        lambda text: text + "x",
    ],
    ids=["foreign", "version", "negative", "huge", "cut", "bytes", "more"],
)
def test_a_file_that_is_not_this_ones_is_ignored_and_replaced(
    spoil: "object", tmp_path: Path
) -> None:
    kept = KeptCosts(tmp_path, "a")
    kept.write(SOME)
    assert kept.read() == SOME
    (path,) = tmp_path.iterdir()
    spoilt = spoil(path.read_text(encoding="utf-8"))  # type: ignore[operator]
    path.write_bytes(spoilt.encode("utf-8", "surrogateescape"))
    assert kept.read() is None
    kept.write(SOME)
    assert kept.read() == SOME


def test_the_least_recently_written_files_are_deleted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kept_costs, "MAX_FILES", 3)
    for number in range(5):
        KeptCosts(tmp_path, str(number)).write(SOME)
        for path in tmp_path.iterdir():
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 10))
    assert [KeptCosts(tmp_path, str(number)).read() is None for number in range(5)] == [
        *(True, True),
        *(False, False, False),
    ]
    assert len(list(tmp_path.iterdir())) == 3


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_knowledge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    kept = KeptCosts(tmp_path / "file", "a")
    kept.write(SOME)
    assert kept.read() is None
    assert "were not kept" in capsys.readouterr().err
