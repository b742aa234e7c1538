""".env.example: every setting of every service is in it, and nothing else."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import AliasChoices
from pydantic_settings import BaseSettings

from chat_worker.settings import ChatSettings
from downloads.settings import DownloadSettings
from embed_worker.settings import EmbedSettings
from gateway.settings import GatewaySettings
from simple.settings import SimpleSettings

ROOT = Path(__file__).resolve().parents[3]
NAME = re.compile(r"^#([A-Z0-9_]+)=", re.MULTILINE)
# Set between the processes, or read by others than the services.
INTERNAL = {"EXIT_WITH_PARENT", "PROFILE_CHOICES"}
NOT_OF_A_SERVICE = {
    *("Y26HKX_BIND", "Y26HKX_PORT", "Y26HKX_TORCH", "Y26HKX_LLAMA", "Y26HKX_HOME"),
    *("GATEWAY_MEMORY", "CHAT_MEMORY", "EMBED_MEMORY", "CHAT_EXTRAS", "EMBED_EXTRAS"),
    *("CHAT_CPUS", "EMBED_CPUS", "Y26HKX_DOMAIN", "GRAFANA_PORT", "PYTHON_IMAGE"),
    *("REDIS_IMAGE", "PROMETHEUS_IMAGE", "GRAFANA_IMAGE", "CADDY_IMAGE"),
}


def documented() -> set[str]:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    return set(NAME.findall(text))


def variables(settings: type[BaseSettings]) -> list[list[str]]:
    """The names of each setting."""
    found = []
    for field in settings.model_fields.values():
        alias = field.validation_alias
        choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
        found.append([str(choice) for choice in choices])
    return found


EVERY_SETTINGS: list[type[BaseSettings]] = [
    GatewaySettings,
    SimpleSettings,
    ChatSettings,
    EmbedSettings,
    DownloadSettings,
]
SCREEN_LINES = 40


@pytest.mark.parametrize("settings", EVERY_SETTINGS)
def test_every_setting_is_documented(settings: type[BaseSettings]) -> None:
    missing = [names for names in variables(settings) if not {*names} & (documented() | INTERNAL)]
    assert missing == []


def test_nothing_is_documented_that_does_not_exist() -> None:
    known = {name for settings in EVERY_SETTINGS for names in variables(settings) for name in names}
    assert documented() - known == NOT_OF_A_SERVICE


@pytest.mark.parametrize("settings", EVERY_SETTINGS)
def test_every_line_of_it_sets_the_default(
    settings: type[BaseSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in documented():
        monkeypatch.delenv(name, raising=False)
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    everything = tmp_path / "env"
    everything.write_text(re.sub(r"^#(?=[A-Z0-9_]+=)", "", text, flags=re.MULTILINE))
    # What fits this machine is no default.
    off: Any = {"profile": "off"} if "profile" in settings.model_fields else {}
    default = settings(_env_file=None, **off)
    found = settings(_env_file=everything, **off)
    for name in settings.model_fields:
        # An empty text may be what "nothing" looks like.
        assert (getattr(found, name) or None) == (getattr(default, name) or None), name


def test_the_example_sets_nothing() -> None:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    assert all(line.startswith("#") or not line for line in lines)


def test_each_setting_stands_in_the_example_once() -> None:
    names = NAME.findall((ROOT / ".env.example").read_text(encoding="utf-8"))
    assert len(names) == len({*names})


def test_the_first_dozen_fills_one_screen_and_is_what_the_readme_lists() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    first = text[: text.index("# ---", text.index("# ---") + 1)]
    assert len(first.splitlines()) <= SCREEN_LINES
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.partition("## Settings")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    listed = [name for row in rows for name in re.findall(r"`([A-Z0-9_]+)`", row)]
    assert NAME.findall(first) == listed
    assert len(listed) == 12
