"""What the settings of gateways and workers have in common: how they are read, and how gateways and
workers on different machines trust each other.

On loopback nothing is encrypted, because no other machine can listen there. Elsewhere each side
shows the other a certificate of an authority that both know, unless the network is declared to be
trusted. The shared token is required in addition.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeVar, get_args

from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from common.deprecated_settings import translate
from common.folders import folders_of_other_programs, models_folder_of
from common.secret_files import SecretFileSource
from common.setting_mistakes import mistaken

SUGGESTION = (
    "set WORKER_TLS_CA, WORKER_TLS_CERT and WORKER_TLS_KEY, or WORKER_TRUSTED_NETWORK=1 if nobody "
    "else is on that network"
)


class Certificates(NamedTuple):
    """Contents of PEM files, in the form that gRPC takes."""

    authority: bytes
    chain: bytes
    key: bytes


class DeprecatedSource(PydanticBaseSettingsSource):
    """The values of old variables in `sources`, by the names of the settings that replace them."""

    def __init__(
        self, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource
    ) -> None:
        super().__init__(settings_cls)
        self._given = variables(*sources)

    def __call__(self) -> dict[str, str]:
        """Translate the old variables.

        Raises:
            ValidationError: a value is not valid.
        """
        translation = translate(self._given)
        if translation.mistakes:
            raise mistaken(
                self.settings_cls, "deprecated_setting", self._given, translation.mistakes
            )
        known = [field.validation_alias for field in self.settings_cls.model_fields.values()]
        return {name: value for name, value in translation.values.items() if name in known}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[None, str, bool]:
        raise NotImplementedError("old variables are translated together")


class SharedSettings(BaseSettings):
    """The settings that gateways and workers have in common."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", extra="ignore", populate_by_name=True
    )

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO",
        validation_alias="LOG_LEVEL",
        description="DEBUG, INFO, WARNING or ERROR.",
    )
    log_format: Literal["text", "json"] = Field(
        default="text",
        validation_alias="LOG_FORMAT",
        description="text, or json: each line is a JSON object.",
    )
    otlp_endpoint: str = Field(
        default="",
        validation_alias="OTLP_ENDPOINT",
        description=(
            "Address of an OpenTelemetry collector, such as http://localhost:4318, that gets "
            "traces over HTTP (needs the extra otel); empty: there are none."
        ),
    )
    otlp_headers: SecretStr = Field(
        default=SecretStr(""),
        validation_alias="OTLP_HEADERS",
        description='Comma-separated "name=value": headers that the collector asks for.',
    )
    trace_sample_ratio: float = Field(
        default=1.0,
        ge=0,
        le=1,
        validation_alias="TRACE_SAMPLE_RATIO",
        description="Share of requests that are traced, where their traceparent does not decide.",
    )
    trace_texts: bool = Field(
        default=False,
        validation_alias="TRACE_TEXTS",
        description="1: traces have the messages of chats and their answers, too.",
    )
    tls_ca: Path | None = Field(
        default=None,
        validation_alias="WORKER_TLS_CA",
        description="PEM file of the authority that signed gateways' and workers' certificates.",
    )
    tls_cert: Path | None = Field(
        default=None,
        validation_alias="WORKER_TLS_CERT",
        description="PEM file of this service's own certificate.",
    )
    tls_key: Path | None = Field(
        default=None,
        validation_alias="WORKER_TLS_KEY",
        description="PEM file of that certificate's private key.",
    )
    trusted_network: bool = Field(
        default=False,
        validation_alias="WORKER_TRUSTED_NETWORK",
        description=(
            "1: workers may listen off loopback without TLS, on a network that only workers and "
            "gateways use, such as a container network of their own."
        ),
    )
    profile_choices: str = Field(
        default="",
        validation_alias="PROFILE_CHOICES",
        description="Names of the variables whose values a supervisor chose for this machine.",
    )
    exit_with_parent: bool = Field(
        default=False,
        validation_alias="EXIT_WITH_PARENT",
        description="Drain and exit when stdin closes, which a supervisor keeps open.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Sources of values; the first that has a setting wins."""
        deprecated = DeprecatedSource(settings_cls, env_settings, dotenv_settings)
        # Before the environment, where an empty variable of that name would win.
        files = SecretFileSource(settings_cls, variables(env_settings, dotenv_settings))
        return init_settings, deprecated, files, env_settings, dotenv_settings

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: Any, info: ValidationInfo) -> Any:
        """An empty value, such as `GLOBAL_SEED=` in .env, sets nothing; for a text it may be
        meant."""
        field = cls.model_fields[str(info.field_name)]
        takes_text = str in (field.annotation, *get_args(field.annotation))
        if value == "" and not takes_text:
            return field.get_default(call_default_factory=True)
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _level_in_any_case(cls, value: Any) -> Any:
        return value.strip().upper() if isinstance(value, str) else value

    @field_validator("otlp_endpoint")
    @classmethod
    def _can_be_traced(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError(f"{value} is not an http:// or https:// address")
        if value and not find_spec("opentelemetry.exporter"):
            raise ValueError("traces need the extra otel: pip install 'y26hkx[otel]'")
        return value

    @field_validator("otlp_headers")
    @classmethod
    def _are_headers(cls, value: SecretStr) -> SecretStr:
        if not all("=" in pair for pair in split_list(value.get_secret_value())):
            raise ValueError("must be name=value, separated by commas")
        return value

    @model_validator(mode="after")
    def _all_or_none(self) -> Self:
        files = {
            "WORKER_TLS_CA": self.tls_ca,
            "WORKER_TLS_CERT": self.tls_cert,
            "WORKER_TLS_KEY": self.tls_key,
        }
        missing = [name for name, path in files.items() if path is None]
        if missing and len(missing) < len(files):
            raise ValueError(f"TLS needs all three files: {' and '.join(missing)} missing")
        for name, path in files.items():
            if path is not None and not path.is_file():
                raise ValueError(f"{name}: there is no file {path}")
        return self

    @property
    def otlp_header_fields(self) -> dict[str, str]:
        pairs = (pair.partition("=") for pair in split_list(self.otlp_headers.get_secret_value()))
        return {name.strip(): value.strip() for name, _, value in pairs}

    @property
    def trusts_others(self) -> bool:
        """Whether gateway and workers may run on different machines."""
        return self.tls_ca is not None or self.trusted_network

    def certificates(self) -> Certificates | None:
        """This service's certificates, read now; None without TLS.

        Raises:
            OSError: a file cannot be read.
        """
        if self.tls_ca is None or self.tls_cert is None or self.tls_key is None:
            return None
        files = (self.tls_ca, self.tls_cert, self.tls_key)
        return Certificates(*(path.read_bytes() for path in files))


S = TypeVar("S", bound=SharedSettings)


def variables(*sources: PydanticBaseSettingsSource) -> dict[str, str]:
    """The variables in `sources` by upper-case name; the first source that has one wins."""
    found: dict[str, str] = {}
    for source in reversed(sources):
        if isinstance(source, EnvSettingsSource):
            found |= {name.upper(): value or "" for name, value in source.env_vars.items()}
    return found


def read_or_exit(settings: type[S], service: str, **given: Any) -> S:
    """Read the settings from environment, .env and `given`. If a value is wrong, the process ends
    with status 2 and one line per mistake on stderr, without a traceback.

    Old variables are mentioned on stderr, unless the supervisor has done so already.
    """
    try:
        read = settings(**given)
    except ValidationError as error:
        for problem in error.errors(include_input=False):
            reason = str(problem.get("ctx", {}).get("error", problem["msg"]))
            sys.stderr.write(": ".join([service, *map(str, problem["loc"]), reason]) + "\n")
        raise SystemExit(2) from None
    if not read.exit_with_parent:
        found = variables(EnvSettingsSource(settings), DotEnvSettingsSource(settings))
        for note in translate(found).notes:
            sys.stderr.write(f"{service}: {note}\n")
    return read


def models_folder() -> Path:
    """The models folder where MODELS_DIR names none."""
    return models_folder_of(os.environ)  # noqa: TID251 - for settings.py of the services


def folders_of_others() -> dict[str, list[Path]]:
    """Where other programs of this user keep models, by their names in MODEL_SOURCES."""
    return folders_of_other_programs(os.environ)  # noqa: TID251 - for settings.py of the services


def split_list(value: str) -> list[str]:
    """Return the non-empty parts of a comma-separated setting."""
    return [part.strip() for part in value.split(",") if part.strip()]
