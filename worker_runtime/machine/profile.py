"""Chooses settings that fit this machine, each with a reason. A variable that is set always wins.

    small    less than 8 GiB    shorter context, fewer requests at once, models unload sooner
    medium   up to 16 GiB       the fixed defaults
    large    more               longer context, models stay loaded longer

The sizes are those of the earlier server's start scripts, with its input limits as contexts. No
memory limit is chosen, because each load is compared with the memory that is free at that moment.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from common.sizes import GIB
from worker_runtime.machine import Machine

MachineSize = Literal["small", "medium", "large"]
Source = Literal["profile", "environment"]

SIZES: tuple[MachineSize, ...] = ("small", "medium", "large")
SMALL_BELOW = 8 * GIB
LARGE_ABOVE = 16 * GIB
# With less available memory, the weights of transformers models are quantized.
FOUR_BITS_BELOW = 4 * GIB
EIGHT_BITS_BELOW = 8 * GIB
ANSWER_TOKENS = 512
INPUT_TOKENS: dict[MachineSize, int] = {"small": 1024, "medium": 2048, "large": 4096}
IDLE_S: dict[MachineSize, int] = {"small": 1800, "medium": 3600, "large": 7200}
SLOTS: dict[MachineSize, int] = {"small": 2, "medium": 4, "large": 4}
# Tokens that a chat model computes at once, and texts that an encoder does.
MICRO_BATCH: dict[MachineSize, int] = {"small": 256, "medium": 512, "large": 512}
BATCH_TEXTS: dict[MachineSize, int] = {"small": 16, "medium": 32, "large": 32}


@dataclass(frozen=True)
class ChosenSetting:
    """One setting: its variable, value and reason, and whether the profile or a user set it."""

    name: str
    value: str
    reason: str
    source: Source


def size_of(machine: Machine, given: Mapping[str, str]) -> MachineSize | None:
    """The machine's size; None if the profile is off or the system does not report its memory."""
    wanted = given.get("PROFILE", "").strip().lower()
    if wanted == "off":
        return None
    for size in SIZES:
        if wanted == size:
            return size
    memory = machine.memory_bytes
    if memory is None:
        return None
    if memory < SMALL_BELOW:
        return "small"
    return "large" if memory > LARGE_ABOVE else "medium"


def choose(machine: Machine, given: Mapping[str, str]) -> list[ChosenSetting]:
    """The settings that fit this machine; where the fixed defaults fit, those.

    Args:
        given: variables that are set, by their upper-case names.
    """
    size = size_of(machine, given)
    if size is None:
        return []
    return [
        _yielding_to(given, name, value, reason)
        for name, value, reason in (
            *_context(size, given),
            *_at_a_time(size),
            *_threads(machine),
            *_quantization(machine, size),
            *_idle(size),
        )
    ]


_Wish = tuple[str, str, str]


def _yielding_to(given: Mapping[str, str], name: str, value: str, reason: str) -> ChosenSetting:
    if name in given:
        return ChosenSetting(
            name, given[name], f"it is set; the profile has {value}", "environment"
        )
    return ChosenSetting(name, value, reason, "profile")


def _context(size: MachineSize, given: Mapping[str, str]) -> Iterator[_Wish]:
    # If the user set a limit on the input, the context follows from it.
    if "MAX_INPUT_TOKENS" not in given:
        tokens = INPUT_TOKENS[size]
        reason = f"{tokens:,} tokens of input and {ANSWER_TOKENS} of answer for each request"
        yield "LLAMA_CTX", str(tokens + ANSWER_TOKENS), reason


def _at_a_time(size: MachineSize) -> Iterator[_Wish]:
    slots, tokens, texts = SLOTS[size], MICRO_BATCH[size], BATCH_TEXTS[size]
    yield "MAX_CONCURRENT_REQUESTS", str(slots), f"room in the KV cache for {slots} contexts"
    yield "LLAMA_UBATCH", str(tokens), f"buffers for {tokens} tokens of a prompt at a time"
    yield "MAX_BATCH_SIZE", str(texts), f"buffers for {texts} texts to embed at a time"


def _threads(machine: Machine) -> Iterator[_Wish]:
    quota, physical = machine.quota_cores, machine.physical_cores
    if quota is not None and quota < physical:
        threads = max(1, int(quota))
        reason = f"the container may take the time of {quota:g} of {physical} cores"
    else:
        threads, reason = 0, f"one for each of {physical} physical cores"
    yield "LLAMA_THREADS", str(threads), reason
    yield "TORCH_NUM_THREADS", str(threads), reason


def _quantization(machine: Machine, size: MachineSize) -> Iterator[_Wish]:
    bits = _bits(machine, size)
    available = f"{(machine.available_bytes or 0) / GIB:.1f} GiB are free for transformers models"
    if bits == "none" or machine.quantizes:
        yield "MODEL_QUANTIZATION", bits, available
    else:
        # Without bitsandbytes each load would fail.
        reason = f"{bits} is wanted, but bitsandbytes is not installed: prefer a Q4_K_M GGUF"
        yield "MODEL_QUANTIZATION", "none", reason


def _bits(machine: Machine, size: MachineSize) -> str:
    available = machine.available_bytes
    if size == "small" or (available is not None and available < FOUR_BITS_BELOW):
        return "4bit"
    return "8bit" if available is not None and available < EIGHT_BITS_BELOW else "none"


def _idle(size: MachineSize) -> Iterator[_Wish]:
    minutes = IDLE_S[size] // 60
    reason = f"unload after {minutes} idle minutes on a {size} machine"
    yield "MODEL_IDLE_TIMEOUT", str(IDLE_S[size]), reason
