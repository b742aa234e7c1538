"""The embedding worker's settings; the only place of this package that reads the environment."""

import os
from pathlib import Path
from typing import Literal, cast, get_args

from pydantic import AliasChoices, Field, field_validator

from common.model_ids import folded_id
from common.settings import split_list
from common.sizes import MIB
from embed_worker.pipe_messages import LoadSpec, Pooling
from worker_runtime.settings import RuntimeSettings, cache_folder

POOLINGS = [kind for kind in get_args(Pooling) if kind]


class EmbedSettings(RuntimeSettings):
    port: int = Field(
        default=50052,
        ge=0,
        le=65535,
        validation_alias="EMBED_WORKER_PORT",
        description="gRPC port; 0 lets the system choose.",
    )
    metrics_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        validation_alias="EMBED_WORKER_METRICS_PORT",
        description="Port of the worker's own Prometheus page; 0 is off.",
    )
    memory_limit_gb: float | None = Field(
        default=3.0,
        gt=0,
        validation_alias="EMBEDDING_MEMORY_LIMIT_GB",
        description="Memory limit in GiB for all loaded embedding models together.",
    )
    max_loaded: int = Field(
        default=0,
        ge=0,
        validation_alias=AliasChoices("MAX_EMBEDDING_MODELS", "MAX_LOADED_MODELS"),
        description=(
            "Number of embedding models that are loaded at once; 0: limited by memory only."
        ),
    )
    default_model: str = Field(
        default="paraphrase-MiniLM-L6-v2",
        validation_alias="EMBEDDING_DEFAULT_MODEL",
        description=(
            "Model for requests that name none; if it is missing, all-MiniLM-L6-v2, else the "
            "first one found."
        ),
    )
    fallback_to_default: bool = Field(
        default=False,
        validation_alias="EMBEDDING_FALLBACK_TO_DEFAULT",
        description="Serve the default model for unknown names instead of a 404.",
    )
    backend: str = Field(
        default="auto",
        pattern=r"^(auto|sentence-transformers|openvino|llama\.cpp)$",
        validation_alias="EMBEDDING_BACKEND",
        description=(
            "auto (OpenVINO on CPUs if the converted model matches torch, else torch), "
            "sentence-transformers, openvino, or llama.cpp, which prefers GGUF files to folders."
        ),
    )
    precision: str = Field(
        default="auto",
        pattern=r"^(auto|f32|bf16|int8)$",
        validation_alias="OPENVINO_PRECISION",
        description=(
            "auto (bf16 if the CPU supports it and the cosines to float32 are above 0.9999, else "
            "f32), f32, bf16, or int8: quantized weights, smaller and less exact."
        ),
    )
    converted_dir: Path = Field(
        default_factory=lambda: cache_folder() / "converted",
        validation_alias="CONVERTED_MODELS_DIR",
        description="Folder for models converted for OpenVINO; unset: in the user's cache folder.",
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d{1,3})?)$",
        validation_alias="EMBEDDING_DEVICE",
        description="Device for embedding models: auto, cpu, cuda, cuda:1 or mps.",
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=1024,
        validation_alias="TORCH_NUM_THREADS",
        description=(
            "Number of threads of one model; 0: the physical cores, of which torch and llama.cpp "
            "use those that other programs leave free."
        ),
    )
    batch_rows: int = Field(
        default=32,
        ge=1,
        validation_alias="MAX_BATCH_SIZE",
        description="Largest number of texts that are computed together.",
    )
    batch_tokens: int = Field(
        default=0,
        ge=0,
        validation_alias="EMBEDDING_BATCH_TOKENS",
        description=(
            "Largest number of tokens, padding included, that are computed together; 0: chosen "
            "for the device."
        ),
    )
    dimensions: Literal["any", "matryoshka"] = Field(
        default="any",
        validation_alias="EMBEDDING_DIMENSIONS",
        description=(
            "Which models may shorten their vectors: any, or matryoshka: only those trained for "
            "it, which declare it with truncate_dim."
        ),
    )
    matryoshka_models: str = Field(
        default="",
        validation_alias="EMBEDDING_MATRYOSHKA_MODELS",
        description="Comma-separated ids of models that were trained for it and do not declare it.",
    )
    pooling: str = Field(
        default="",
        validation_alias="EMBEDDING_POOLING",
        description=(
            'Comma-separated "model=mean", "=cls" or "=last": how the vectors of a text\'s tokens '
            "become one, in place of what the model's files state. Folders then run on torch."
        ),
    )
    max_inputs: int = Field(
        default=2048,
        ge=1,
        validation_alias="EMBEDDING_MAX_INPUTS",
        description="Largest number of inputs in one request.",
    )
    max_queued_inputs: int = Field(
        default=16_384,
        ge=1,
        validation_alias="EMBEDDING_MAX_QUEUED_INPUTS",
        description=(
            "Number of inputs that may wait for one model; further requests are refused with 429."
        ),
    )
    max_queued_tokens: int = Field(
        default=2_097_152,
        ge=1,
        validation_alias="EMBEDDING_MAX_QUEUED_TOKENS",
        description=(
            "Number of tokens that may wait for one model; further requests are refused with 429."
        ),
    )
    cache_enabled: bool = Field(
        default=True,
        validation_alias="ENABLE_MODEL_CACHE",
        description="Cache computed vectors and use them for the same texts.",
    )
    cache_ttl_s: float = Field(
        default=3600.0,
        gt=0,
        validation_alias="CACHE_TTL_SECONDS",
        description="Seconds that a vector stays in the cache.",
    )
    cache_mb: int = Field(
        default=32,
        ge=0,
        validation_alias="EMBEDDING_CACHE_MB",
        description=(
            "Size of the vector cache of each loaded model in MiB; the least recently used "
            "vectors are evicted."
        ),
    )
    cache_dir: str = Field(
        default="",
        validation_alias="EMBEDDING_CACHE_DIR",
        description=(
            "Folder on a local disk for cached vectors, which all workers share and which "
            "outlive the process of their model; empty: vectors are cached in memory only."
        ),
    )
    cache_dir_mb: int = Field(
        default=256,
        ge=1,
        validation_alias="EMBEDDING_CACHE_DIR_MB",
        description="Limit of that folder in MiB; the least recently used vectors are deleted.",
    )

    @field_validator("pooling")
    @classmethod
    def _are_poolings(cls, value: str) -> str:
        for pair in split_list(value):
            model, _, kind = pair.rpartition("=")
            if not model.strip() or kind.strip() not in POOLINGS:
                raise ValueError(f"{pair} is not model={' or model='.join(POOLINGS)}")
        return value

    def pooling_of(self, model_id: str) -> Pooling:
        """The pooling that is set for a model; empty if none is."""
        pairs = (pair.rpartition("=") for pair in split_list(self.pooling))
        found = {folded_id(model.strip()): kind.strip() for model, _, kind in pairs}
        return cast(Pooling, found.get(folded_id(model_id), ""))

    @property
    def preload(self) -> bool:
        """Whether the default model is loaded at the start."""
        return self.preloads("default-embedding")

    def load_spec(
        self,
        *,
        backend: str,
        path: str,
        model_id: str,
        fingerprint: str = "",
        torch_fingerprint: str = "",
        truncate_dim: int = 0,
    ) -> LoadSpec:
        """The spec of a model for its encoder process.

        Args:
            truncate_dim: the length of vectors in the model's own configuration; 0: not stated.
        """
        keeps_vectors = self.cache_enabled and self.cache_dir
        listed = split_list(self.matryoshka_models)
        return LoadSpec(
            backend=backend,
            may_fall_back=self.backend != backend,
            path=path,
            model_id=model_id,
            fingerprint=fingerprint,
            torch_fingerprint=torch_fingerprint,
            precision=self.precision,
            converted_dir=os.path.abspath(self.converted_dir),
            device=self.device,
            n_threads=self.threads,
            pooling=self.pooling_of(model_id),
            batch_tokens=self.batch_tokens,
            max_batch_rows=self.batch_rows,
            max_queued_tokens=self.max_queued_tokens,
            max_queued_inputs=self.max_queued_inputs,
            cache_bytes=self.cache_mb * MIB if self.cache_enabled else 0,
            cache_ttl_s=self.cache_ttl_s,
            cache_dir=os.path.abspath(self.cache_dir) if keeps_vectors else "",
            cache_dir_bytes=self.cache_dir_mb * MIB,
            default_dimensions=truncate_dim,
            may_shorten=self.dimensions == "any" or truncate_dim > 0 or model_id in listed,
        )
