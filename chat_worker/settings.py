"""The chat worker's settings; the only place of this package that reads the environment."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, SecretStr, field_validator
from pydantic_settings import NoDecode

from chat_worker.conversions import Precision
from chat_worker.plugins.models import installed_backends
from common.settings import split_list
from common.sizes import MIB
from worker_runtime.machine import read_machine
from worker_runtime.settings import RuntimeSettings, cache_folder

DEFAULT_MODEL_PATH = Path("./models/qwen/Qwen2.5-0.5B-Instruct")
DEFAULT_REMOTE_MODELS = Path("./models/remote.toml")
DEFAULT_INPUT_TOKENS = 2048
DEFAULT_ANSWER_TOKENS = 512
# The share of the machine's memory in which a model keeps past conversations.
KEPT_MEMORY_SHARE = 1 / 16
BACKEND_NAMES = {
    "": "",
    "auto": "",
    "transformers": "transformers",
    "llama.cpp": "llama.cpp",
    "llamacpp": "llama.cpp",
    "llama": "llama.cpp",
    "openvino": "openvino",
}
DTYPES = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32", "": "auto"}
Quantization = Literal["none", "4bit", "8bit"]


class ChatSettings(RuntimeSettings):
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
    parallel: int = Field(
        default=4,
        ge=1,
        le=128,
        validation_alias="MAX_CONCURRENT_REQUESTS",
        description=(
            "Number of sequences that are decoded together; more wait in the engine's queue."
        ),
    )
    max_queue: int = Field(
        default=64,
        ge=0,
        validation_alias="MAX_QUEUED_REQUESTS",
        description=(
            "Number of requests that may wait beyond the running ones; more are refused with 429."
        ),
    )
    context_tokens: int = Field(
        default=0,
        ge=0,
        validation_alias="LLAMA_CTX",
        description=(
            "Context of one request in tokens, at most that of the model's training. 0: "
            "MAX_INPUT_TOKENS (or 2,048) and 512 tokens for the answer."
        ),
    )
    cache_tokens: int = Field(
        default=0,
        ge=0,
        validation_alias="LLAMA_KV_TOKENS",
        description=(
            "Size of the whole KV cache in tokens; 0: one context for each parallel request, up "
            "to 32,768. A request is admitted by the tokens that it really uses."
        ),
    )
    threads: int = Field(
        default=0,
        ge=0,
        validation_alias="LLAMA_THREADS",
        description=(
            "Number of threads of llama.cpp; 0: the physical cores that other programs leave free."
        ),
    )
    batch_tokens: int = Field(
        default=2048,
        ge=32,
        validation_alias="LLAMA_BATCH",
        description="Largest number of tokens in one step.",
    )
    micro_batch_tokens: int = Field(
        default=512,
        ge=32,
        validation_alias="LLAMA_UBATCH",
        description=(
            "Size of a micro-batch in tokens; it determines the size of the compute buffer."
        ),
    )
    torch_threads: int = Field(
        default=0,
        ge=0,
        validation_alias="TORCH_NUM_THREADS",
        description=(
            "Number of threads of torch; 0: the physical cores that other programs leave free."
        ),
    )
    torch_dtype: Literal["auto", "float16", "bfloat16", "float32"] = Field(
        default="auto",
        validation_alias="TORCH_DTYPE",
        description=(
            "Dtype in which a transformers model computes: auto, float16 (fp16), bfloat16 (bf16) "
            "or float32 (fp32). auto: the dtype of the checkpoint, or float32 on CPUs that are "
            "slow with it."
        ),
    )
    quantization: Quantization = Field(
        default="none",
        validation_alias="MODEL_QUANTIZATION",
        description=(
            "Quantization of a transformers model's weights through bitsandbytes: none, 4bit or "
            "8bit."
        ),
    )
    compile_model: bool = Field(
        default=False,
        validation_alias="COMPILE_MODEL",
        description=(
            "Compile a transformers model on a GPU. Loading becomes slow; measure whether steps "
            "become faster. On a CPU the weights are packed for faster multiplication instead."
        ),
    )
    precision: Precision = Field(
        default="auto",
        validation_alias="OPENVINO_PRECISION",
        description=(
            "Computation of a chat model on OpenVINO: auto (bf16 if the CPU has instructions for "
            "it, else int8), int8 (inputs of products are rounded to 8 bits, as llama.cpp does), "
            "bf16, or f32 (nothing is rounded: exact, and several times larger)."
        ),
    )
    device: str = Field(
        default="CPU",
        pattern=r"^(CPU|GPU|NPU)(\.\d+)?$",
        validation_alias="OPENVINO_DEVICE",
        description=(
            "Device of chat models on OpenVINO, as OpenVINO lists them: CPU, GPU, GPU.1, NPU. Only "
            "CPU was tried."
        ),
    )
    weight_bits: Literal["4", "8"] = Field(
        default="8",
        validation_alias="OPENVINO_WEIGHT_BITS",
        description=(
            "Bits of the weights of chat models that are converted for OpenVINO: 8, or 4, which "
            "are smaller and less exact."
        ),
    )
    converted_dir: Path = Field(
        default_factory=lambda: cache_folder() / "converted",
        validation_alias="CONVERTED_MODELS_DIR",
        description="Folder for models converted for OpenVINO; unset: in the user's cache folder.",
    )
    memory_factors: Annotated[dict[Quantization, PositiveFloat], NoDecode] = Field(
        default={},
        validation_alias="TRANSFORMERS_MEMORY_FACTORS",
        description=(
            "Memory estimate of a transformers model, as a multiple of the size of its files by "
            'MODEL_QUANTIZATION, such as "none:2.2,8bit:1.3,4bit:1.15"; unset: computed from the '
            "headers."
        ),
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

    kv_type: Literal["f16", "q8_0"] = Field(
        default="f16",
        validation_alias="LLAMA_KV_TYPE",
        description="Data type of the KV cache: f16, or q8_0, which takes half the memory.",
    )
    kept_memory_mb: int | None = Field(
        default=None,
        ge=0,
        validation_alias="KV_CACHE_MEMORY_MB",
        description=(
            "Memory in MB in which a model keeps the KV cache of conversations that lost their "
            "slot. It is reserved as far as memory is free, and given back when "
            "other models need it; unset: a sixteenth of the machine's memory; 0: none."
        ),
    )
    kept_folder: Path | None = Field(
        default=None,
        validation_alias="KV_CACHE_DIR",
        description=(
            "Folder that stores the KV cache of conversations that do not fit into memory, and of "
            "all while their model is unloaded; empty: the next turn computes the whole "
            "conversation again. The files contain the text of conversations as tokens."
        ),
    )
    kept_mb: int = Field(
        default=1024,
        ge=1,
        validation_alias="KV_CACHE_MAX_MB",
        description="Limit of that folder in MB; the least recently used files are deleted.",
    )
    speculation: bool = Field(
        default=True,
        validation_alias="SPECULATION",
        description=(
            "Guess tokens that already occurred in the prompt and verify several in one step; "
            "answers stay the same."
        ),
    )
    answer_wait_s: float = Field(
        default=2.5,
        ge=0.1,
        le=600,
        validation_alias="ANSWER_WAIT_S",
        description=(
            "Seconds for which answers that are being read stop for the prompts of other requests, "
            "all prompts together, before they go on for a while. Longer: all requests together "
            "are done sooner. Shorter: text flows more evenly."
        ),
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

    @field_validator("torch_dtype", mode="before")
    @classmethod
    def _known_dtype(cls, value: object) -> object:
        name = value.strip().lower() if isinstance(value, str) else value
        return DTYPES.get(name, name) if isinstance(name, str) else name

    @field_validator("quantization", mode="before")
    @classmethod
    def _known_quantization(cls, value: object) -> object:
        return (value.strip().lower() or "none") if isinstance(value, str) else value

    @field_validator("memory_factors", mode="before")
    @classmethod
    def _factors(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        parts = [part.partition(":") for part in split_list(value)]
        return {name.strip().lower(): factor.strip() for name, _, factor in parts}

    @property
    def kept_memory_bytes(self) -> int:
        """The most that a model may keep of past conversations in memory."""
        if self.kept_memory_mb is None:
            return int((read_machine().memory_bytes or 0) * KEPT_MEMORY_SHARE)
        return self.kept_memory_mb * MIB

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
