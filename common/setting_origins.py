"""The settings in force, and where each comes from; secrets are masked."""

from pathlib import Path
from typing import Any, NamedTuple

from pydantic import SecretStr
from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource

from common.deprecated_settings import translate
from common.secret_files import SUFFIX, secret_settings
from common.secret_variables import without_secrets
from common.settings import SharedSettings, split_list, variables

MASK = "***"
DEFAULT = "default"
MOST_CHARACTERS = 200
# Set between the processes of one stack.
INTERNAL = frozenset({"EXIT_WITH_PARENT", "PROFILE_CHOICES"})


class ShownSetting(NamedTuple):
    """
    Args:
        origin: "environment", ".env", "file" (of a secret), "old variable", "profile" (chosen for
            this machine), "command line", or "default".
    """

    value: Any
    origin: str


def shown_settings(settings: SharedSettings) -> dict[str, ShownSetting]:
    """All settings of a service by their variables, as they are in force."""
    kind = type(settings)
    environment = variables(EnvSettingsSource(kind))
    dotenv = variables(DotEnvSettingsSource(kind))
    given = dotenv | environment
    of_files = {name for name in secret_settings(kind) if given.get(name + SUFFIX)}
    places: list[tuple[Any, str]] = [
        (set(split_list(settings.profile_choices)), "profile"),
        (set(translate(given).values) - set(given), "old variable"),
        (of_files, "file"),
        (environment, "environment"),
        (dotenv, ".env"),
    ]
    # What the profile chose in this process has no variable.
    elsewhere = "profile" if hasattr(settings, "profile") else "command line"
    found: dict[str, ShownSetting] = {}
    for field, described in kind.model_fields.items():
        name = str(described.validation_alias)
        if name in INTERNAL:
            continue
        origin = DEFAULT
        if field in settings.model_fields_set:
            origin = next((place for names, place in places if name in names), elsewhere)
        found[name] = ShownSetting(_shown(name, getattr(settings, field)), origin)
    return found


def changed_line(settings: SharedSettings) -> str:
    """The settings that are not the defaults, in one line for the log."""
    changed = {n: s for n, s in shown_settings(settings).items() if s.origin != DEFAULT}
    said = (f"{name}={_brief(s.value)} ({s.origin})" for name, s in sorted(changed.items()))
    return ", ".join(said) or "all are the defaults"


def _shown(name: str, value: Any) -> Any:
    """The value as JSON can have it; a secret only as a mask, or empty if there is none."""
    is_secret = isinstance(value, SecretStr) or not without_secrets({name: ""})
    # The path of a file with secrets is none.
    if is_secret and not isinstance(value, Path | None):
        plain = value.get_secret_value() if isinstance(value, SecretStr) else value
        return MASK if plain else ""
    if isinstance(value, str | int | float | bool | None):
        return value
    return str(value)


def _brief(value: Any) -> str:
    text = "".join(c if c.isprintable() else "?" for c in str(value))
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "…"
