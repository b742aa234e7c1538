"""Reads secrets from files, as containers get them: `WORKER_TOKEN_FILE` names a file with the value
of `WORKER_TOKEN`, and other secret settings have such a variable too.

A setting is secret if its type is SecretStr or contains it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from common.setting_mistakes import mistaken

SUFFIX = "_FILE"


def secret_settings(settings: type[BaseSettings]) -> dict[str, tuple[str, FieldInfo]]:
    """Return the name and the field of each secret that a file can hold, by its variable.

    API_KEYS is not among them, because API_KEYS_FILE is a setting of its own, for digests.
    """
    fields = settings.model_fields
    variables = {str(field.validation_alias) for field in fields.values()}
    return {
        str(field.validation_alias): (name, field)
        for name, field in fields.items()
        if SecretStr in (field.annotation, *get_args(field.annotation))
        and f"{field.validation_alias}{SUFFIX}" not in variables
    }


class SecretFileSource(PydanticBaseSettingsSource):
    """A source of settings: the values in the files that variables in `given` name.

    Args:
        given: the values of variables, by their upper-case names.
    """

    def __init__(self, settings_cls: type[BaseSettings], given: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self._given = given

    def __call__(self) -> dict[str, Any]:
        """Return the values of the secrets, by the names of their settings.

        Raises:
            ValidationError: a file cannot be read or is not valid, or the variable is set too.
        """
        values: dict[str, Any] = {}
        mistakes: dict[str, str] = {}
        for variable, (name, field) in secret_settings(self.settings_cls).items():
            path = self._given.get(variable + SUFFIX, "").strip()
            if path and self._given.get(variable):
                mistakes[variable + SUFFIX] = f"{variable} is set too: leave one of them out"
            elif path:
                try:
                    values[variable] = self._read(Path(path), name, field)
                except OSError as error:
                    mistakes[variable + SUFFIX] = f"{path} cannot be read: {error.strerror}"
                except ValueError:
                    # The text of the error is left out, because it may quote the secret.
                    mistakes[variable + SUFFIX] = f"{path} does not hold what {variable} can be"
        if mistakes:
            raise mistaken(self.settings_cls, "secret_file", self._given, mistakes)
        return values

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[None, str, bool]:
        raise NotImplementedError("files are read together")

    def _read(self, path: Path, name: str, field: FieldInfo) -> Any:
        text = path.read_text(encoding="utf-8").strip()
        if not text:
            raise ValueError("it is empty")
        return self.prepare_field_value(name, field, text, self.field_is_complex(field))
