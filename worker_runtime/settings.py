"""Settings that chat and embedding workers share. In this package only this module reads the
environment. Each worker subclasses `RuntimeSettings` and adds its port and its own fields.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
)

from common.folders import cache_folder_of
from common.loopback import is_loopback
from common.secret_variables import without_secrets
from common.settings import SUGGESTION, models_folder, split_list
from common.sizes import GIB
from worker_runtime.machine import read_machine
from worker_runtime.machine.profile import choose
from worker_runtime.policy import LifecyclePolicy
from worker_runtime.source_settings import SourceSettings

# Makes glibc's malloc use huge pages. Weights and KV caches are read completely for each token, and
# with 4 KiB pages the translation of addresses takes 6 to 13 % of that time. Other C libraries
# ignore the variable.
HUGE_PAGES = "glibc.malloc.hugetlb=1"
# Keeps libraries from downloading and from reporting usage. OpenVINO reads no such variable
# (see `embed_worker.encoders`).
CALLS_NOBODY = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}


def cache_folder() -> Path:
    """The folder in which this user's programs keep files that they can make again."""
    return cache_folder_of(os.environ)  # noqa: TID251 - settings.py is where the environment is read


class ProfileSource(PydanticBaseSettingsSource):
    """Values that fit this machine, for settings that nothing else sets."""

    def __call__(self) -> dict[str, str]:
        given = {name.upper(): str(value) for name, value in self._by_variable()}
        choices = choose(read_machine(), given)
        return {choice.name: choice.value for choice in choices if choice.source == "profile"}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[None, str, bool]:
        raise NotImplementedError("the values are chosen together")

    def _by_variable(self) -> Iterator[tuple[str, object]]:
        """The values that are set elsewhere, by variable (environment) or by field name."""
        fields = self.settings_cls.model_fields
        for name, value in self.current_state.items():
            alias = fields[name].validation_alias if name in fields else name
            yield str(alias), value


class RuntimeSettings(SourceSettings):
    host: str = Field(
        default="127.0.0.1",
        validation_alias="WORKER_HOST",
        description="Address that the worker listens on; off loopback WORKER_TOKEN is required.",
    )
    port: int = Field(
        default=0,
        ge=0,
        le=65535,
        validation_alias="WORKER_PORT",
        description="gRPC port; 0 lets the system choose. Each worker has its own variable.",
    )
    metrics_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        validation_alias="WORKER_METRICS_PORT",
        description="Port of the worker's own Prometheus page; 0 is off.",
    )
    token: SecretStr = Field(
        default=SecretStr(""),
        validation_alias="WORKER_TOKEN",
        description="Shared token that every RPC must carry; empty (loopback only): not checked.",
    )
    profile: Literal["auto", "small", "medium", "large", "off"] = Field(
        default="auto",
        validation_alias="PROFILE",
        description=(
            "Which settings are chosen for this machine where nothing else sets them: auto (by "
            "its memory), small (less than 8 GiB), medium, large (more than 16 GiB), or off: the "
            "plain defaults."
        ),
    )
    models_dir: Path = Field(
        default_factory=models_folder,
        validation_alias="MODELS_DIR",
        description=(
            "Folder that is scanned for models; unset: ./models, or for an installed server where "
            "there is none, a folder of this user."
        ),
    )
    builtin_models: bool = Field(
        default=True,
        validation_alias="BUILTIN_MODELS",
        description="List the built-in models beside those of the models folder.",
    )
    scan_ttl_s: float = Field(
        default=300.0,
        gt=0,
        validation_alias="MODEL_SCAN_TTL_SECONDS",
        description="Seconds after which the models folder is scanned again.",
    )
    idle_timeout_s: float = Field(
        default=3600.0,
        validation_alias="MODEL_IDLE_TIMEOUT",
        description="Seconds from the last request until an idle model is unloaded; -1: never.",
    )
    shed_after_s: float = Field(
        default=900.0,
        ge=0,
        validation_alias="IDLE_CACHE_SECONDS",
        description=(
            "Seconds from the last request until an idle model that stays loaded gives its "
            "caches back: the KV cache of conversations, which KV_CACHE_DIR can store, and "
            "cached vectors; 0: only when it is unloaded."
        ),
    )
    preload_models: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        validation_alias="PRELOAD_MODELS",
        description=(
            "Comma-separated ids of models to load at the start; main and default-embedding are "
            "the models that serve requests without a model name."
        ),
    )
    pinned_models: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        validation_alias="PINNED_MODELS",
        description=(
            "Comma-separated ids of models to load at the start and keep loaded until they are "
            "unloaded by hand."
        ),
    )
    max_loaded: int = Field(
        default=0,
        ge=0,
        validation_alias="MAX_LOADED_MODELS",
        description="Number of models that this worker loads at once; 0: limited by memory only.",
    )
    memory_limit_gb: float | None = Field(
        default=None,
        gt=0,
        validation_alias="MODEL_MEMORY_LIMIT_GB",
        description="Memory limit in GiB for all loaded models of this worker; unset: none.",
    )
    memory_check: bool = Field(
        default=True,
        validation_alias="MEMORY_CHECK",
        description="Refuse a load if too little memory is available; off: load the model anyway.",
    )
    min_remain_gb: float | None = Field(
        default=None,
        ge=0,
        validation_alias="MIN_REMAIN_AFTER_LOAD_GB",
        description=(
            "Memory in GiB that must stay available after a load; unset: 10 % of the memory, 0.5 "
            "GiB at the least, or of a container's limit, 64 MiB at the least."
        ),
    )
    ledger_dir: Path | None = Field(
        default=None,
        validation_alias="MEMORY_LEDGER_DIR",
        description=(
            "Folder in which the workers of one machine record the memory that they have "
            "reserved; unset: a folder of this user in the system's folder for temporary files."
        ),
    )
    learnt_dir: Path = Field(
        default_factory=cache_folder,
        validation_alias="MEMORY_LEARNT_DIR",
        description=(
            "Folder for the measured memory of past loads, the measured times of chat models, and "
            "the report of llama.cpp's self-test on this processor; unset: the user's cache folder."
        ),
    )
    max_waiting: int = Field(
        default=64,
        ge=1,
        validation_alias="MAX_WAITING_REQUESTS",
        description="Number of requests that may wait for the load of one model; more are refused.",
    )
    queue_wait_s: float = Field(
        default=30.0,
        gt=0,
        validation_alias="QUEUE_WAIT_SECONDS",
        description="Seconds that a load may wait for memory that other models hold.",
    )
    load_timeout_s: float = Field(
        default=600.0,
        gt=0,
        validation_alias="MODEL_LOAD_TIMEOUT",
        description="Seconds that the load of a model may take.",
    )
    drain_s: float = Field(
        default=25.0,
        ge=0,
        validation_alias="DRAIN_SECONDS",
        description="Seconds that running requests may take to end at a shutdown.",
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
        explicit = super().settings_customise_sources(
            settings_cls, init_settings, env_settings, dotenv_settings, file_secret_settings
        )
        return *explicit, ProfileSource(settings_cls)

    @field_validator("profile", mode="before")
    @classmethod
    def _in_any_case(cls, value: object) -> object:
        return (value.strip().lower() or "auto") if isinstance(value, str) else value

    @field_validator("preload_models", "pinned_models", mode="before")
    @classmethod
    def _ids(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(split_list(value))
        return value

    @model_validator(mode="after")
    def _no_open_port(self) -> Self:
        if not is_loopback(self.host) and not self.token.get_secret_value():
            raise ValueError(f"WORKER_HOST={self.host} is not loopback: WORKER_TOKEN is required")
        if not is_loopback(self.host) and not self.trusts_others:
            raise ValueError(f"WORKER_HOST={self.host} is open to others: {SUGGESTION}")
        return self

    def preloads(self, model: str) -> bool:
        """Whether PRELOAD_MODELS names `model`."""
        return model in (named.casefold() for named in self.preload_models)

    def engine_environment(self, backend: str) -> dict[str, str]:
        """Variables that engine processes of `backend` get in addition to this process's own.
        Workers add theirs."""
        return {**CALLS_NOBODY, "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}

    def selftest_environment(self) -> dict[str, str]:
        """The environment of llama.cpp's self-test: that of an engine process."""
        return engine_environment(self.engine_environment("llama.cpp"))

    def policy(self) -> LifecyclePolicy:
        """The lifecycle's figures, taken from these settings."""
        remain = self.min_remain_gb
        return LifecyclePolicy(
            idle_timeout_s=self.idle_timeout_s if self.idle_timeout_s >= 0 else None,
            shed_after_s=self.shed_after_s or None,
            max_loaded=self.max_loaded,
            memory_limit_bytes=(
                None if self.memory_limit_gb is None else int(self.memory_limit_gb * GIB)
            ),
            memory_check=self.memory_check,
            min_remain_bytes=None if remain is None else int(remain * GIB),
            max_waiting=self.max_waiting,
            queue_wait_s=self.queue_wait_s,
            load_timeout_s=self.load_timeout_s,
            drain_s=self.drain_s,
        )


def engine_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment for engine processes: this process's own without secrets, and `extra`.

    It makes them use huge pages where the system has them; the user's own GLIBC_TUNABLES win.
    """
    inherited = os.environ  # noqa: TID251 - settings.py is where the environment is read
    kept = without_secrets(inherited)
    tunables = ":".join(filter(None, (HUGE_PAGES, kept.get("GLIBC_TUNABLES"))))
    return kept | {"GLIBC_TUNABLES": tunables} | dict(extra)
