"""The whole stack where its limit takes one of two models, or none."""

from pathlib import Path

import httpx

from benchmarks.pressure import MODELS, NO_ROOM_GB, ask, limited_stack, needed_gb, take_turns

ENOUGH_TURNS_S = 4


def test_who_asks_for_the_model_that_is_not_loaded_gets_its_turn(tmp_path: Path) -> None:
    with limited_stack(tmp_path, needed_gb(tmp_path) * 1.5) as stack:
        answers = take_turns(stack, ENOUGH_TURNS_S)
        assert {answer.status for answer in answers} == {httpx.codes.OK}
        assert len(answers) >= len(MODELS)
        loaded = stack.find("chat_worker.engine_process")
        assert len(loaded) <= 1


def test_a_limit_that_takes_no_model_refuses_with_the_arithmetic_and_nothing_dies(
    tmp_path: Path,
) -> None:
    with limited_stack(tmp_path, NO_ROOM_GB) as stack:
        worker = stack.one("chat_worker")
        for model in MODELS * 2:
            refused = ask(stack, model)
            assert refused.status == httpx.codes.SERVICE_UNAVAILABLE
            assert (refused.error["cause"], refused.error["reason"]) == ("memory", "over_limit")
            needed, limit = int(str(refused.error["needed_bytes"])), refused.error["limit_bytes"]
            assert needed > int(str(limit))
        assert stack.one("chat_worker").pid == worker.pid
        assert not stack.find("chat_worker.engine_process")
