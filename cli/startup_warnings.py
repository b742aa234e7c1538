"""What may go wrong with these settings on this machine, each with a suggestion.

These warnings follow from settings and machine alone, so they are cheap and printed at every start.
`cli/doctor_checks.py` has those that only the doctor checks.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from cli.settings import StackSettings, is_on
from common.sizes import GIB
from worker_runtime.machine import STRICT, Machine
from worker_runtime.machine.profile import choose

Severity = Literal["info", "warning", "failure"]
SMALL_RAM_BYTES = 8 * GIB
PAGE_FILE_BYTES = 16 * GIB
LONG_INPUT_TOKENS = 2048


@dataclass(frozen=True)
class StartupWarning:
    """
    Args:
        id: for scripts; it never changes.
        severity: info: good to know; warning: it may go wrong; failure: it certainly does.
    """

    id: str
    severity: Severity
    message: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.message}; {self.way_out}"


def startup_warnings(
    settings: StackSettings, machine: Machine, system: str = sys.platform
) -> Iterator[StartupWarning]:
    """All warnings for these settings on this machine."""
    yield from _exposure(settings)
    yield from _swap(machine, system)
    yield from _memory(machine)
    yield from _settings(settings)
    if machine.memory_bytes is not None and machine.memory_bytes < SMALL_RAM_BYTES:
        chosen = {choice.name: choice.value for choice in choose(machine, settings.values)}
        yield from _heavy_for_small({**settings.values, **chosen})


def has_keys(settings: StackSettings) -> bool:
    return any(settings.values.get(name) for name in ("API_KEYS", "API_KEY", "API_KEYS_FILE"))


def never_unloads(settings: StackSettings) -> bool:
    return settings.values.get("MODEL_IDLE_TIMEOUT", "").strip().startswith("-")


def _exposure(settings: StackSettings) -> Iterator[StartupWarning]:
    if not settings.is_local and not has_keys(settings):
        yield StartupWarning(
            "exposed_without_keys",
            "failure",
            f"{settings.host} can be reached from other machines, and no API keys are set: the "
            "gateway will refuse to start",
            "set API_KEYS",
        )


def _swap(machine: Machine, system: str) -> Iterator[StartupWarning]:
    windows = system == "win32"
    if machine.swap_bytes == 0:
        yield StartupWarning(
            "no_swap",
            "warning" if windows else "info",
            f"no {'page file' if windows else 'swap'}: a model that outgrows free memory is ended, "
            "the rest serves on",
            "docs/faq.md explains how to add some",
        )
    elif windows and machine.swap_bytes is not None and machine.swap_bytes < PAGE_FILE_BYTES:
        yield StartupWarning(
            "small_page_file",
            "warning",
            f"page file of {machine.swap_bytes / GIB:.1f} GiB: loading may fail with error 1455",
            "set it to 16 GB or more",
        )


def _memory(machine: Machine) -> Iterator[StartupWarning]:
    if machine.overcommit == STRICT:
        yield StartupWarning(
            "strict_overcommit",
            "warning",
            "vm.overcommit_memory is 2: loads that would fit are refused, because programs reserve "
            "more than they use",
            "sysctl vm.overcommit_memory=0, or add swap",
        )
    limit, total = machine.limit_bytes, machine.total_bytes
    if limit is not None and total is not None and limit < total:
        yield StartupWarning(
            "container_limit",
            "info",
            f"a container or group limits memory to {limit / GIB:.1f} of {total / GIB:.1f} GiB",
            "models are chosen by the limit; raise it for larger ones",
        )


def _settings(settings: StackSettings) -> Iterator[StartupWarning]:
    value = settings.values.get
    if never_unloads(settings):
        yield StartupWarning(
            "never_unloads",
            "warning",
            f"MODEL_IDLE_TIMEOUT={value('MODEL_IDLE_TIMEOUT')}: a loaded model keeps its memory "
            "until it is unloaded by hand",
            "POST /v1/models/unload frees it",
        )
    if is_on(value("COMPILE_MODEL", "0")):
        yield StartupWarning(
            "compiles",
            "warning",
            "COMPILE_MODEL is on: loading takes minutes and more memory",
            "leave it unset unless there is a GPU",
        )


def _heavy_for_small(values: Mapping[str, str]) -> Iterator[StartupWarning]:
    whole = values.get("MODEL_QUANTIZATION", "none").lower() == "none"
    if values.get("MODEL_BACKEND", "").lower() == "transformers" and whole:
        yield StartupWarning(
            "large_weights",
            "warning",
            "transformers without quantization on less than 8 GiB of memory",
            "use a Q4_K_M GGUF with llama.cpp, or MODEL_QUANTIZATION=4bit",
        )
    tokens = values.get("MAX_INPUT_TOKENS", "").strip()
    if tokens.isdigit() and int(tokens) > LONG_INPUT_TOKENS:
        yield StartupWarning(
            "long_input",
            "warning",
            f"MAX_INPUT_TOKENS={tokens} on less than 8 GiB of memory",
            "1024 fits well",
        )
