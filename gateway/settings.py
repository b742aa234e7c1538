"""The gateway's settings. With `pool_settings`, `listen_settings`, `key_settings` and
`limit_settings` the only reader of the environment in this package."""

import os
import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from common.loopback import is_address
from common.sampling_ranges import DEFAULT_TEMPERATURE, DEFAULT_TOP_P, RANGES
from common.secret_variables import without_secrets
from common.settings import split_list
from common.sizes import MIB
from gateway.key_settings import NO_RATE
from gateway.localize import languages
from gateway.pool_settings import PoolSettings

DEFAULT_CUSTOM_MODELS = Path("./models/custom.json")
# For clients that are not on this machine, unless RATE_LIMIT says otherwise.
OPEN_RATE = "600/minute"
OPEN_IN_FLIGHT = 8
IS_HOST = re.compile(r"[\w.-]+|\*")


class GatewaySettings(PoolSettings):
    main_model_id: str = Field(
        default="qwen2-y26hkx-guide",
        validation_alias="MAIN_MODEL_ID",
        description="Id that is listed as the main model while no chat worker can be reached.",
    )
    model_aliases: str = Field(
        default="",
        validation_alias="MODEL_ALIASES",
        description='Comma-separated "alias=model": names that mean a model under another id.',
    )
    unknown_models: Literal["refuse", "default"] = Field(
        default="refuse",
        validation_alias="UNKNOWN_MODELS",
        description=(
            "Requests that name a model nobody knows: refuse, or default: the default model "
            "answers, and the reply says which."
        ),
    )
    custom_models_file: Path = Field(
        default=DEFAULT_CUSTOM_MODELS,
        validation_alias="CUSTOM_MODELS_FILE",
        description=(
            "JSON file of the models that clients made by /api/create and /api/copy: names for "
            "models with a system prompt and options."
        ),
    )
    responses_store_path: Path | None = Field(
        default=None,
        validation_alias="RESPONSES_STORE_PATH",
        description=(
            "Folder that keeps responses of /v1/responses for 30 days, for gateways of one machine "
            "together; unset: in memory, for an hour."
        ),
    )
    responses_store_bytes: int = Field(
        default=32 * MIB,
        gt=0,
        validation_alias="RESPONSES_STORE_BYTES",
        description="Bytes of all kept responses; of whoever has most, the oldest go first.",
    )
    batches_path: Path | None = Field(
        default=None,
        validation_alias="BATCHES_PATH",
        description=(
            "Folder for the files of /v1/files and /v1/batches, of this gateway alone; unset: none "
            "are taken."
        ),
    )
    batches_bytes: int = Field(
        default=1024 * MIB,
        gt=0,
        validation_alias="BATCHES_BYTES",
        description="Bytes of all files in it together.",
    )
    max_pulls: int = Field(
        default=1,
        ge=0,
        le=16,
        validation_alias="MAX_PULLS",
        description=(
            "Number of models that may be downloaded at once through the API; 0: none, and none is "
            "deleted."
        ),
    )
    error_language: str = Field(
        default="auto",
        validation_alias="ERROR_LANGUAGE",
        description=(
            "Language of error messages: en, zh-TW, or auto: by the client's Accept-Language."
        ),
    )
    default_temperature: float = Field(
        default=DEFAULT_TEMPERATURE,
        ge=RANGES["temperature"].low,
        le=RANGES["temperature"].high,
        validation_alias="DEFAULT_TEMPERATURE",
        description="Temperature of requests that set none.",
    )
    default_top_p: float = Field(
        default=DEFAULT_TOP_P,
        ge=RANGES["top_p"].low,
        le=RANGES["top_p"].high,
        validation_alias="DEFAULT_TOP_P",
        description="top_p of requests that set none.",
    )
    default_max_tokens: int = Field(
        default=512,
        gt=0,
        validation_alias="DEFAULT_MAX_TOKENS",
        description="max_tokens of requests that set none.",
    )
    cors_origins: str = Field(
        default="",
        validation_alias="CORS_ORIGINS",
        description=(
            "Comma-separated origins of web pages that may call, * for all. Without API keys, "
            "pages of this machine and of installed programs always may."
        ),
    )
    allowed_hosts: str = Field(
        default="",
        validation_alias="ALLOWED_HOSTS",
        description=(
            "Comma-separated names and addresses, without port, under which clients may call "
            "without API keys, * for any. Those of this machine (localhost) always may."
        ),
    )
    detailed_metrics: bool = Field(
        default=True,
        validation_alias="ENABLE_DETAILED_METRICS",
        description=(
            "Export memory metrics of each model's process, not only of workers and totals."
        ),
    )
    guard_policy: Path | None = Field(
        default=None,
        validation_alias="GUARD_POLICY",
        description=(
            "TOML file of rules that block, redact or flag texts of requests and answers; it is "
            "read again when it changes. Unset: there is no guard."
        ),
    )
    console: bool = Field(
        default=True,
        validation_alias="CONSOLE",
        description="Serve the console, a web page for people, at the path /.",
    )
    access_log: bool = Field(
        default=True,
        validation_alias="ACCESS_LOG",
        description=(
            "Log one line per request: its id, client, route, status and time, never its text."
        ),
    )

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, value: str) -> str:
        for host in split_list(value):
            if not IS_HOST.fullmatch(host) and not is_address(host.strip("[]")):
                raise ValueError(f"{host} is no name or address; no scheme, no port, or * for any")
        return value

    @field_validator("error_language")
    @classmethod
    def _is_spoken(cls, value: str) -> str:
        if value not in ("auto", *languages()):
            raise ValueError(f"must be one of auto, {', '.join(languages())}")
        return value

    @field_validator("responses_store_path")
    @classmethod
    def _is_a_folder_to_be(cls, value: Path | None) -> Path | None:
        if value is not None and value.exists() and not value.is_dir():
            raise ValueError(f"{value} is not a folder")
        return value

    @field_validator("guard_policy")
    @classmethod
    def _is_a_policy(cls, value: Path | None) -> Path | None:
        if value is not None:
            try:
                from gateway.guard.rules import read_rules
            except ModuleNotFoundError as error:
                raise ValueError(
                    f"needs the library {error.name}: pip install 'y26hkx[guard]'"
                ) from None
            read_rules(value)
        return value

    @field_validator("model_aliases")
    @classmethod
    def _are_pairs(cls, value: str) -> str:
        for pair in split_list(value):
            alias, _, model = pair.partition("=")
            if not alias.strip() or not model.strip():
                raise ValueError(f"{pair} is not alias=model")
        return value

    @property
    def aliases(self) -> dict[str, str]:
        """Ids of models by other names for them."""
        pairs = (pair.partition("=") for pair in split_list(self.model_aliases))
        return {alias.strip(): model.strip() for alias, _, model in pairs}

    @property
    def falls_back(self) -> bool:
        return self.unknown_models == "default"

    @property
    def rate(self) -> str:
        """The rate limit in force; empty: none."""
        if self.rate_limit:
            return "" if self.rate_limit.lower() == NO_RATE else self.rate_limit
        return "" if self.is_local else OPEN_RATE

    @property
    def most_at_once(self) -> int:
        """Requests that one key may have in flight; 0: no limit."""
        if self.max_in_flight_per_key is not None:
            return self.max_in_flight_per_key
        return 0 if self.is_local else OPEN_IN_FLIGHT


def child_environment() -> dict[str, str]:
    """The environment for a process that downloads models: without secrets but the hub's token."""
    inherited = os.environ  # noqa: TID251 - settings.py is where the environment is read
    return without_secrets(inherited, frozenset({"HF_TOKEN"}))
