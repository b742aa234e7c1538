"""Variables of the earlier server that others replace: translated, and mentioned once."""

import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from pydantic import ValidationError

from chat_worker.settings import ChatSettings
from common.deprecated_settings import DEPRECATED, translate
from common.settings import SharedSettings
from embed_worker.settings import EmbedSettings
from gateway.settings import GatewaySettings
from tests.running_stack import KEPT_VARIABLES
from worker_runtime.settings import RuntimeSettings

ROOT = Path(__file__).resolve().parents[3]
EVERY_SETTINGS: tuple[type[SharedSettings], ...] = (GatewaySettings, ChatSettings, EmbedSettings)


def known_variables() -> set[str]:
    fields = (field for settings in EVERY_SETTINGS for field in settings.model_fields.values())
    return {str(field.validation_alias) for field in fields}


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({}, {}),
        ({"MODEL_UNLOAD_ENABLED": ""}, {}),
        ({"MODEL_UNLOAD_ENABLED": "1", "PRELOAD_MAIN_MODEL": "false"}, {}),
        ({"MODEL_UNLOAD_ENABLED": "No"}, {"MODEL_IDLE_TIMEOUT": "-1"}),
        ({"AUTO_MEMORY_MANAGEMENT": "0"}, {"PROFILE": "off"}),
        ({"STRICT_MEMORY_CHECK": "1"}, {"MIN_REMAIN_AFTER_LOAD_GB": "1"}),
        (
            {"PRELOAD_MAIN_MODEL": "1", "PRELOAD_EMBEDDING_MODEL": "1", "PRELOAD_MODELS": "a"},
            {"PRELOAD_MODELS": "a,main,default-embedding"},
        ),
        (
            {"MEMORY_EXPANSION_FP": "2.2", "MEMORY_EXPANSION_4BIT": "1.15"},
            {"TRANSFORMERS_MEMORY_FACTORS": "none:2.2,4bit:1.15"},
        ),
        ({"LOW_CPU_MEM_USAGE": "1", "MIN_BATCH_SIZE": "4"}, {}),
    ],
)
def test_an_old_variable_sets_what_replaces_it(
    given: dict[str, str], values: dict[str, str]
) -> None:
    translation = translate(given)
    assert translation.values == values
    assert len(translation.notes) == sum(bool(given[o.name]) for o in DEPRECATED if o.name in given)
    assert translation.mistakes == {}


def test_what_was_switched_off_stays_off_whatever_else_is_set() -> None:
    translation = translate({"MODEL_UNLOAD_ENABLED": "0", "MODEL_IDLE_TIMEOUT": "60"})
    assert translation.values == {"MODEL_IDLE_TIMEOUT": "-1"}
    assert "overrides MODEL_IDLE_TIMEOUT=60" in translation.notes[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("STRICT_MEMORY_CHECK=1", "MIN_REMAIN_AFTER_LOAD_GB=3"),
        ("MEMORY_EXPANSION_8BIT=1.3", "TRANSFORMERS_MEMORY_FACTORS=none:2,8BIT:1.2"),
        ("PRELOAD_MAIN_MODEL=1", "PRELOAD_MODELS=a,main"),
    ],
)
def test_an_old_value_yields_to_the_setting_that_replaces_it_and_says_so(
    old: str, new: str
) -> None:
    translation = translate(dict(said.split("=") for said in (old, new)))
    assert translation.values == {}
    assert f"{old} has no effect, as {new} is set" in translation.notes[0]


def test_every_replacement_is_a_setting_and_no_old_variable_is_one() -> None:
    replacements = {old.replacement for old in DEPRECATED if old.replacement}
    assert replacements <= known_variables()
    assert {old.name for old in DEPRECATED} & known_variables() == set()
    assert all(bool(old.replacement) != bool(old.reason) for old in DEPRECATED)


def test_services_take_what_old_variables_set_also_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "env"
    file.write_text("PRELOAD_MAIN_MODEL=1\nMEMORY_EXPANSION_8BIT=1.3\nSTRICT_MEMORY_CHECK=1\n")
    monkeypatch.setenv("MEMORY_EXPANSION_FP", "2.2")
    chat, embed = ChatSettings(_env_file=file), EmbedSettings(_env_file=file)
    assert chat.memory_factors == {"none": 2.2, "8bit": 1.3}
    assert (chat.preload, embed.preload) == (True, False)
    assert embed.policy().min_remain_bytes == 1 << 30
    assert RuntimeSettings(_env_file=file, min_remain_gb=2).min_remain_gb == 2


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("MODEL_UNLOAD_ENABLED", "perhaps", "MODEL_UNLOAD_ENABLED"),
        ("MEMORY_EXPANSION_FP", "much", "TRANSFORMERS_MEMORY_FACTORS"),
        ("MEMORY_EXPANSION_FP", "0", "TRANSFORMERS_MEMORY_FACTORS"),
        ("TRANSFORMERS_MEMORY_FACTORS", "2bit:1", "TRANSFORMERS_MEMORY_FACTORS"),
    ],
)
def test_a_value_that_means_nothing_is_refused_by_name(
    variable: str, value: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValidationError) as refused:
        ChatSettings(_env_file=None)
    assert refused.value.errors()[0]["loc"][0] == named


@pytest.mark.parametrize(("supervised", "n_notes"), [("0", 1), ("1", 0)])
def test_a_service_mentions_an_old_variable_once_unless_its_supervisor_has(
    supervised: str, n_notes: int
) -> None:
    kept = {k: v for k, v in psutil.Process().environ().items() if k in KEPT_VARIABLES}
    code = (
        "from gateway.settings import GatewaySettings; from common.settings import read_or_exit; "
        "read_or_exit(GatewaySettings, 'gateway')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**kept, "METRICS_COLLECTION_INTERVAL": "60", "EXIT_WITH_PARENT": supervised},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    notes = [line for line in ended.stderr.splitlines() if "METRICS_COLLECTION_INTERVAL=60" in line]
    assert len(notes) == n_notes


def test_the_documentation_lists_each_old_variable_with_what_replaces_it() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = text.partition("## Deprecated settings")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `([A-Z0-9_]+)` \| ([^|]+) \|", table, re.MULTILINE))
    assert rows.keys() == {old.name for old in DEPRECATED}
    for old in DEPRECATED:
        assert (old.replacement or old.reason) in rows[old.name], old.name
