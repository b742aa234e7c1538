"""What the engine decodes together, in which context, and what it keeps of past conversations."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from chat_worker.library_settings import LibrarySettings
from common.sizes import MIB
from worker_runtime.machine import read_machine

# The share of the machine's memory in which a model keeps past conversations.
KEPT_MEMORY_SHARE = 1 / 16


class EngineSettings(LibrarySettings):
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
    kv_type: Literal["f16", "q8_0"] = Field(
        default="f16",
        validation_alias="LLAMA_KV_TYPE",
        description="Data type of the KV cache: f16, or q8_0, which takes half the memory.",
    )
    flash_attention: Literal["auto", "off"] = Field(
        default="auto",
        validation_alias="LLAMA_FLASH_ATTENTION",
        description=(
            "llama.cpp's flash attention; auto: where it supports the model. Off: on some "
            "processors answers after long texts come faster, for more memory; a KV cache in q8_0 "
            "needs it."
        ),
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

    @property
    def kept_memory_bytes(self) -> int:
        """The most that a model may keep of past conversations in memory."""
        if self.kept_memory_mb is None:
            return int((read_machine().memory_bytes or 0) * KEPT_MEMORY_SHARE)
        return self.kept_memory_mb * MIB
