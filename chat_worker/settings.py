"""The chat worker's settings. With `engine_settings` and `library_settings` the only reader of the
environment in this package."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from chat_worker.engine_settings import EngineSettings
from chat_worker.plugins.models import installed_backends
from common.settings import split_list

DEFAULT_MODEL_PATH = Path("./models/qwen/Qwen2.5-0.5B-Instruct")
DEFAULT_REMOTE_MODELS = Path("./models/remote.toml")
DEFAULT_INPUT_TOKENS = 2048
DEFAULT_ANSWER_TOKENS = 512
BACKEND_NAMES = {
    "": "",
    "auto": "",
    "transformers": "transformers",
    "llama.cpp": "llama.cpp",
    "llamacpp": "llama.cpp",
    "llama": "llama.cpp",
    "openvino": "openvino",
}


class ChatSettings(EngineSettings):
    port: int = Field(
        default=50051,
        ge=0,
        le=65535,
        validation_alias="CHAT_WORKER_PORT",
        description="gRPC port; 0 lets the system choose.",
    )
    metrics_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        validation_alias="CHAT_WORKER_METRICS_PORT",
        description="Port of the worker's own Prometheus page; 0 is off.",
    )
    model_path: Path = Field(
        default=DEFAULT_MODEL_PATH,
        validation_alias="MODEL_PATH",
        description="Main model: a GGUF file, a folder of them, or a transformers folder.",
    )
    backend: str = Field(
        default="",
        validation_alias="MODEL_BACKEND",
        description=(
            "transformers or llama.cpp, for a folder that has both formats; empty or auto: "
            "llama.cpp, and OpenVINO for models that were measured to be faster there. "
            "openvino: converts all models that it can run for OpenVINO once. "
            "Also the name of an installed third-party backend, which then runs the main model."
        ),
    )
    trial_idle_s: float = Field(
        default=60.0,
        ge=0,
        le=86_400,
        validation_alias="BACKEND_TRIAL_IDLE_S",
        description=(
            "Seconds without requests after which a model that was used, and that OpenVINO can run "
            "besides the backend of its format, is measured once on both. Later loads take the "
            "faster one. 0: never; MODEL_BACKEND decides without a measurement."
        ),
    )
    standby_engine: bool = Field(
        default=True,
        validation_alias="STANDBY_ENGINE",
        description=(
            "Keep one engine process without a model waiting, so that the next load does not wait "
            "for Python's start. It takes about 40 MiB, and ends where memory is short."
        ),
    )
    remote_models: Path = Field(
        default=DEFAULT_REMOTE_MODELS,
        validation_alias="REMOTE_MODELS",
        description="TOML file that lists models of other OpenAI-compatible servers.",
    )
    remote_api_keys: dict[str, SecretStr] = Field(
        default={},
        validation_alias="REMOTE_API_KEYS",
        description='API keys for those servers, by their names in the file: {"name": "key"}.',
    )
    max_input_tokens: int = Field(
        default=0,
        ge=0,
        validation_alias="MAX_INPUT_TOKENS",
        description="Longest input in tokens; 0: as much as the context allows.",
    )
    max_input_chars: int = Field(
        default=0,
        ge=0,
        validation_alias="MAX_INPUT_CHARS",
        description="Longest input in characters; 0: no limit.",
    )
    on_overflow: Literal["trim", "refuse"] = Field(
        default="trim",
        validation_alias="CONTEXT_OVERFLOW",
        description=(
            "What happens to longer input: trim leaves out the oldest turns and reports it, "
            "refuse answers with an error."
        ),
    )
    load_ladder: bool = Field(
        default=True,
        validation_alias="LOAD_LADDER",
        description=(
            "Load a chat model that does not fit with a smaller cache or context, or from a "
            "smaller file, and report this in its replies; 0: refuse it."
        ),
    )
    fallback_models: str = Field(
        default="",
        validation_alias="FALLBACK_MODELS",
        description=(
            "Comma-separated ids, or paths in the models folder, of models that may replace the "
            "main model if it cannot be loaded, the best first."
        ),
    )
    default_system_prompt: str = Field(
        default="",
        validation_alias="DEFAULT_SYSTEM_PROMPT",
        description="System message for conversations that have none.",
    )
    global_seed: int | None = Field(
        default=None,
        ge=0,
        validation_alias="GLOBAL_SEED",
        description="Seed for requests that set none; unset: random.",
    )

    @field_validator("backend")
    @classmethod
    def _known_backend(cls, value: str) -> str:
        name = value.strip()
        if name.lower() in BACKEND_NAMES:
            return BACKEND_NAMES[name.lower()]
        installed = installed_backends()
        if name not in installed:
            known = ", ".join(["transformers", "llama.cpp", "openvino", *installed])
            raise ValueError(f"MODEL_BACKEND is {value!r}; known are {known}")
        return name

    @property
    def plugin(self) -> str:
        """The name of the third-party backend that runs the main model; empty: there is none."""
        return "" if self.backend in BACKEND_NAMES.values() else self.backend

    @property
    def fallback_names(self) -> list[str]:
        return split_list(self.fallback_models)

    @property
    def preload(self) -> bool:
        """Whether the main model is loaded at the start."""
        return self.preloads("main")

    @property
    def request_tokens(self) -> int:
        """The context of one request, before the model's own limit."""
        return self.context_tokens or (
            (self.max_input_tokens or DEFAULT_INPUT_TOKENS) + DEFAULT_ANSWER_TOKENS
        )
