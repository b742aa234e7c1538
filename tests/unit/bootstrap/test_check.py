"""The hooks before a commit and the workflow of CI run the project's own commands."""

import re
from typing import Any

import pytest
import yaml

from bootstrap.check import STEPS, check
from bootstrap.settings import ROOT, SetupError, scripts_folder


def read(name: str) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return found


def test_the_hooks_before_a_commit_are_the_steps_of_check() -> None:
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local", "versions are those of the lock"
    hooks = repository["hooks"]
    assert [hook["id"] for hook in hooks] == list(STEPS)
    for hook in hooks:
        assert hook["entry"] == f"python3 run.py check {hook['id']}"
        assert hook["pass_filenames"] is False


def test_an_unknown_step_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(SetupError, match=r"no such step: spelling .*format, lint"):
        check(scripts_folder(ROOT / ".venv") / "python", {}, ["spelling"])


def test_a_step_alone_is_run_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(scripts_folder(ROOT / ".venv") / "python", {}, ["lock"]) == 0
    said = capsys.readouterr().err
    assert "lock: ok" in said
    assert "format" not in said


def test_ci_may_read_only_and_ends_in_time_with_actions_of_one_version() -> None:
    workflow = read(".github/workflows/ci.yml")
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 60
        for step in job["steps"]:
            assert "uses" not in step or re.fullmatch(r"[\w/-]+@v\d+\.\d+\.\d+", step["uses"])
            assert "run" not in step or step["run"].startswith("python run.py ")


def test_ci_runs_every_folder_of_tests_on_every_system_and_python() -> None:
    jobs = read(".github/workflows/ci.yml")["jobs"]
    matrix = jobs["check"]["strategy"]["matrix"]
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "windows", "macos"}
    assert matrix["python"] == ["3.11", "3.12", "3.13"]
    commands = " ".join(step.get("run", "") for job in jobs.values() for step in job["steps"])
    for folder in ("unit", "contract", "stack", "faults", "models", "clients"):
        assert f"tests/{folder}" in commands
