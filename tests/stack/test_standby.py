"""The whole stack with an engine process that waits for the next model."""

from pathlib import Path

import psutil

from tests.running_stack import GUIDE, RunningStack, wait_until

ENGINE = "chat_worker.engine_process"
ASK = {"messages": [{"role": "user", "content": "What is Y26HKX?"}], "max_tokens": 4}
WITHIN_S = 60


def waiting(stack: RunningStack) -> psutil.Process:
    """The only engine process, once there is one."""
    wait_until((bool(stack.find(ENGINE)) for _ in iter(int, 1)), WITHIN_S, "a process waits")
    return stack.one(ENGINE)


def test_the_first_answer_comes_from_the_process_that_waited_and_all_end_with_the_stack(
    tmp_path: Path,
) -> None:
    log = tmp_path / "stack.log"
    with RunningStack(log, STANDBY_ENGINE="1") as stack:
        first = waiting(stack)
        assert not [file.path for file in first.open_files() if file.path.endswith(".gguf")]
        assert stack.http.post("/v1/chat/completions", json=ASK).is_success
        assert f"model {GUIDE} is loaded" in log.read_text()
        assert f"pid {first.pid})" in log.read_text()
        wait_until((len(stack.find(ENGINE)) == 2 for _ in iter(int, 1)), WITHIN_S, "another waits")
        processes = stack.processes()
    assert not [process for process in processes if process.is_running()]


def test_a_standby_that_is_killed_costs_no_request(tmp_path: Path) -> None:
    with RunningStack(tmp_path / "stack.log", STANDBY_ENGINE="1") as stack:
        waiting(stack).kill()
        assert stack.http.post("/v1/chat/completions", json=ASK).is_success
