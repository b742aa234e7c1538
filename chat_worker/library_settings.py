"""How transformers and OpenVINO run chat models."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, field_validator
from pydantic_settings import NoDecode

from chat_worker.conversions import Precision
from common.settings import split_list
from worker_runtime.settings import RuntimeSettings, cache_folder

DTYPES = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32", "": "auto"}
Quantization = Literal["none", "4bit", "8bit"]


class LibrarySettings(RuntimeSettings):
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
    memory_factors: Annotated[dict[Quantization, PositiveFloat], NoDecode] = Field(
        default={},
        validation_alias="TRANSFORMERS_MEMORY_FACTORS",
        description=(
            "Memory estimate of a transformers model, as a multiple of the size of its files by "
            'MODEL_QUANTIZATION, such as "none:2.2,8bit:1.3,4bit:1.15"; unset: computed from the '
            "headers."
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
