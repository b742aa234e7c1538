"""Every variable of .env.example reaches the services whose setting it is, or is said not to."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import AliasChoices
from pydantic_settings import BaseSettings

from chat_worker.settings import ChatSettings
from common.secret_files import secret_settings
from downloads.settings import DownloadSettings
from embed_worker.settings import EmbedSettings
from gateway.settings import GatewaySettings

ROOT = Path(__file__).resolve().parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
WITH_SECRETS: dict[str, Any] = yaml.safe_load(
    (ROOT / "deploy/compose.secrets.yml").read_text(encoding="utf-8")
)
DOCUMENT = (ROOT / "docs/containers.md").read_text(encoding="utf-8")
SETTINGS: dict[str, type[BaseSettings]] = {
    "gateway": GatewaySettings,
    "chat_worker": ChatSettings,
    "embed_worker": EmbedSettings,
}


def variables(service: str) -> set[str]:
    """The variables that `service` reads."""
    return aliases(SETTINGS[service])


def aliases(settings: type[BaseSettings]) -> set[str]:
    fields = [field.validation_alias for field in settings.model_fields.values()]
    named = [alias.choices if isinstance(alias, AliasChoices) else [alias] for alias in fields]
    return {str(name) for names in named for name in names}


def secrets(service: str) -> set[str]:
    own = set(secret_settings(SETTINGS[service]))
    return own | ({"API_KEYS"} if service == "gateway" else set())


def environment(service: str) -> dict[str, str | None]:
    found: dict[str, str | None] = COMPOSE["services"][service]["environment"]
    return found


def documented() -> set[str]:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    return set(re.findall(r"^#([A-Z0-9_]+)=", text, re.MULTILINE))


def rows(columns: int) -> dict[str, list[str]]:
    """The tables of docs/containers.md that are so wide, by their first column."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in DOCUMENT.splitlines()
        if line.startswith("| `")
    ]
    return {row[0].strip("`"): row[1:] for row in cells if len(row) == columns}


FIXED = rows(3)
OF_COMPOSE = rows(2)


def is_passed(service: str, name: str) -> bool:
    """Whether what .env sets `name` to is what `service` sees."""
    here = environment(service)
    value = here.get(name)
    return name not in here or value is None or value.startswith((f"${{{name}?", f"${{{name}:-"))


def test_every_variable_reaches_its_services_or_is_in_the_list_of_fixed_ones() -> None:
    for service in SETTINGS:
        own = variables(service) & documented()
        lost = {name for name in own if not is_passed(service, name)} - set(FIXED)
        assert lost == set(), service
    of_services = set().union(*map(variables, SETTINGS))
    downloads = aliases(DownloadSettings) - of_services
    assert (
        documented() - of_services == set(OF_COMPOSE) | {"SIMPLE_PORT", "Y26HKX_HOME"} | downloads
    )


def test_the_list_of_fixed_variables_is_true_and_gives_reasons() -> None:
    for name, (inside, reason) in FIXED.items():
        assert reason, name
        readers = [service for service in SETTINGS if name in variables(service)]
        for service in readers:
            assert environment(service)[name] == inside.strip("`"), (service, name)
        assert bool(readers) == bool(inside), name


def test_what_only_compose_reads_is_in_the_compose_file() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    for name in OF_COMPOSE:
        assert f"${{{name}:-" in text, name


@pytest.mark.parametrize("service", SETTINGS)
def test_the_env_file_is_given_to_each_service_and_may_be_missing(service: str) -> None:
    assert COMPOSE["services"][service]["env_file"] == [{"path": ".env", "required": False}]


@pytest.mark.parametrize("service", SETTINGS)
def test_a_name_that_the_compose_file_gives_a_service_is_a_setting_of_it_or_a_secret_kept_from_it(
    service: str,
) -> None:
    others = set().union(*map(secrets, SETTINGS)) - secrets(service)
    given = environment(service)
    # .env would give it all of them.
    assert {name for name, value in given.items() if value == ""} == others
    unknown = set(given) - variables(service) - others
    assert unknown <= {"PRELOAD_MAIN_MODEL", "PRELOAD_EMBEDDING_MODEL"}


@pytest.mark.parametrize("service", SETTINGS)
def test_a_setting_that_an_image_brings_is_fixed_so_that_env_cannot_break_it(service: str) -> None:
    dockerfile = (ROOT / "deploy" / f"{service}.Dockerfile").read_text(encoding="utf-8")
    block = re.search(r"^ENV (.+(?:\\\n.+)*)", dockerfile, re.MULTILINE)
    assert block
    brought = dict(re.findall(r"([A-Z0-9_]+)=(\S+)", block[1]))
    for name in set(brought) & variables(service):
        assert environment(service)[name] == brought[name]


@pytest.mark.parametrize("service", SETTINGS)
def test_secrets_by_file_are_mounted_for_those_who_need_them(service: str) -> None:
    mounted = {name.upper() for name in WITH_SECRETS["services"][service]["secrets"]}
    assert mounted == {"API_KEYS", "WORKER_TOKEN"} & secrets(service)
    assert {name.lower() for name in mounted} <= set(WITH_SECRETS["secrets"])


def test_the_documents_name_every_file_that_may_hold_a_secret() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    for name in set().union(*(secret_settings(settings) for settings in SETTINGS.values())):
        assert f"{name}_FILE" in example
        assert f"{name}_FILE" in DOCUMENT
