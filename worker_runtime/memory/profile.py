"""Settings that fit this machine, each with its reason; a variable that is set always wins.

    small    less than 8 GiB    shorter context, models leave sooner
    medium   up to 16 GiB       the plain defaults
    large    more               longer context, models stay longer

The sizes of the earlier server's start scripts, with its input limits as contexts. Not chosen, as
others decide it better: threads, which are the physical cores; fixed budgets, where each load is
compared with what is free at that moment; smaller buffers, to which a load that does not fit falls
back.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from worker_runtime.machine import GIB, Machine

Size = Literal["small", "medium", "large"]
Source = Literal["profile", "environment"]

SIZES: tuple[Size, ...] = ("small", "medium", "large")
SMALL_BELOW = 8 * GIB
LARGE_ABOVE = 16 * GIB
# Available memory below which a transformers model's weights are quantized.
FOUR_BITS_BELOW = 4 * GIB
EIGHT_BITS_BELOW = 8 * GIB
ANSWER_TOKENS = 512
INPUT_TOKENS: dict[Size, int] = {"small": 1024, "large": 4096}
IDLE_S: dict[Size, int] = {"small": 1800, "large": 7200}
OFF = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True)
class Choice:
    """One setting: its variable, its value, why, and whether the profile or somebody set it."""

    name: str
    value: str
    reason: str
    source: Source


def size_of(machine: Machine, given: Mapping[str, str]) -> Size | None:
    """The machine's profile; None: it is off, or the system does not tell its memory."""
    wanted = given.get("PROFILE", "").strip().lower()
    if wanted == "off" or given.get("AUTO_MEMORY_MANAGEMENT", "1").strip().lower() in OFF:
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


def choose(machine: Machine, given: Mapping[str, str]) -> list[Choice]:
    """What differs from the plain defaults on this machine.

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
            *_idle(size),
            *_quantization(machine, size, given),
            *_threads(machine),
        )
    ]


_Wish = tuple[str, str, str]


def _yielding_to(given: Mapping[str, str], name: str, value: str, reason: str) -> Choice:
    if name in given:
        return Choice(name, given[name], f"it is set; the profile has {value}", "environment")
    return Choice(name, value, reason, "profile")


def _context(size: Size, given: Mapping[str, str]) -> Iterator[_Wish]:
    # A limit on the input that somebody set makes the context, too.
    if size in INPUT_TOKENS and "MAX_INPUT_TOKENS" not in given:
        tokens = INPUT_TOKENS[size]
        reason = f"{tokens:,} tokens of input and {ANSWER_TOKENS} of answer for each request"
        yield "LLAMA_CTX", str(tokens + ANSWER_TOKENS), reason


def _idle(size: Size) -> Iterator[_Wish]:
    if size in IDLE_S:
        minutes = IDLE_S[size] // 60
        why = "memory is scarce" if size == "small" else "memory is plentiful"
        yield "MODEL_IDLE_TIMEOUT", str(IDLE_S[size]), f"{why}: unload after {minutes} idle minutes"


def _quantization(machine: Machine, size: Size, given: Mapping[str, str]) -> Iterator[_Wish]:
    bits = _bits(machine, size)
    if bits is None or machine.available_bytes is None:
        return
    available = f"{machine.available_bytes / GIB:.1f} GiB are free for transformers models"
    if machine.quantizes:
        yield "MODEL_QUANTIZATION", bits, available
    elif given.get("MODEL_BACKEND", "").strip().lower() == "transformers":
        # What cannot be done would make each load fail.
        reason = f"{bits} is wanted, bitsandbytes is not installed: a Q4_K_M GGUF is the better way"
        yield "MODEL_QUANTIZATION", "none", reason


def _bits(machine: Machine, size: Size) -> str | None:
    available = machine.available_bytes or 0
    if size == "small" or available < FOUR_BITS_BELOW:
        return "4bit"
    return "8bit" if available < EIGHT_BITS_BELOW else None


def _threads(machine: Machine) -> Iterator[_Wish]:
    quota = machine.quota_cores
    if quota is None or quota >= machine.physical_cores:
        return
    threads = max(1, int(quota))
    reason = f"the container may take the time of {quota:g} of {machine.physical_cores} cores"
    yield "LLAMA_THREADS", str(threads), reason
    yield "TORCH_NUM_THREADS", str(threads), reason
