"""What engine processes may know of this process's environment, and that each setting is told."""

import pytest

from worker_runtime.settings import HUGE_PAGES, RuntimeSettings, engine_environment


def test_engine_processes_get_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORKER_TOKEN", "WORKER_TOKEN_FILE", "RATE_LIMIT_STORAGE", "openai_api_key"):
        monkeypatch.setenv(name, "canary")
    monkeypatch.setenv("MAX_INPUT_TOKENS", "7")
    passed = engine_environment({"OMP_NUM_THREADS": "2"})
    assert "canary" not in passed.values()
    assert (passed["MAX_INPUT_TOKENS"], passed["OMP_NUM_THREADS"]) == ("7", "2")


def test_a_tunable_of_the_users_own_goes_before_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
    # Of two that say something of the same, glibc takes the last.
    ours, theirs = engine_environment({})["GLIBC_TUNABLES"].split(":")
    assert (ours, theirs) == (HUGE_PAGES, "glibc.malloc.hugetlb=0")


def test_each_setting_says_what_it_is_and_which_variable_sets_it() -> None:
    for name, field in RuntimeSettings.model_fields.items():
        assert field.description, name
        assert field.validation_alias, name


def test_old_variables_set_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_IDLE_TIMEOUT", "90")
    monkeypatch.setenv("MODEL_MEMORY_LIMIT_GB", "2")
    monkeypatch.setenv("STRICT_MEMORY_CHECK", "1")
    policy = RuntimeSettings().policy()
    assert (policy.idle_timeout_s, policy.memory_limit_bytes) == (90, 2 << 30)
    assert policy.min_remain_bytes == 1 << 30
    monkeypatch.setenv("MODEL_UNLOAD_ENABLED", "0")
    assert RuntimeSettings().policy().idle_timeout_s is None
