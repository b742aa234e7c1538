"""What the stack says of itself when it starts: where it is, what is set, and what that risks."""

import sys
from collections.abc import Iterator

from cli.machine import GIB, Memory, memory
from cli.settings import LOOPBACK, StackSettings, is_on

DOCS = "README.md, ARCHITECTURE.md; /docs of the running server for the API"
SMALL_RAM_BYTES = 8 * GIB
PAGE_FILE_BYTES = 16 * GIB
LONG_INPUT_TOKENS = 2048


def summary(settings: StackSettings, port: int) -> Iterator[str]:
    """The lines to print."""
    found = memory()
    yield f"OpenAI base URL  http://{settings.reached_at}:{port}/v1  (listening on {settings.host})"
    yield f"models           {settings.models_dir}"
    yield f"memory           {_memory_line(found)}"
    yield f"API keys         {'set' if _has_keys(settings) else 'none: any local program may ask'}"
    yield f"input limit      {_input_limit(settings)} (MAX_INPUT_TOKENS)"
    yield f"idle unloading   {_unloading(settings)}"
    if settings.chat_workers is not None:
        yield f"chat workers     {settings.chat_workers or 'none'} (CHAT_WORKERS is set)"
    if settings.embed_workers is not None:
        yield f"embed workers    {settings.embed_workers or 'none'} (EMBED_WORKERS is set)"
    for risk in risks(settings, found):
        yield f"risk             {risk}"
    yield f"docs             {DOCS}"


def risks(settings: StackSettings, found: Memory, system: str = sys.platform) -> Iterator[str]:
    """What may go wrong with these settings on this machine, each with the way out."""
    yield from _exposure(settings)
    yield from _memory_risks(settings, found, system)
    value = settings.values.get
    if not is_on(value("MODEL_UNLOAD_ENABLED", "1")):
        yield "MODEL_UNLOAD_ENABLED is off: a loaded model keeps its memory until it is unloaded"
    if is_on(value("COMPILE_MODEL", "0")):
        yield "COMPILE_MODEL is on: loading takes minutes and more memory"


def _exposure(settings: StackSettings) -> Iterator[str]:
    if settings.host not in LOOPBACK and not _has_keys(settings):
        yield (
            f"{settings.host} can be reached from other machines, and no API keys are set: the "
            "gateway will refuse to start; set API_KEYS"
        )


def _memory_risks(settings: StackSettings, found: Memory, system: str) -> Iterator[str]:
    value = settings.values.get
    small = found.total_bytes is not None and found.total_bytes < SMALL_RAM_BYTES
    transformers = value("MODEL_BACKEND", "").lower() == "transformers"
    page_file = "page file" if system == "win32" else "swap"
    if found.swap_bytes == 0:
        yield f"no {page_file}: a model that outgrows free memory is ended, the rest serves on"
    elif system == "win32" and found.swap_bytes is not None and found.swap_bytes < PAGE_FILE_BYTES:
        yield (
            f"page file of {found.swap_bytes / GIB:.1f} GiB: loading may fail with error 1455; "
            "set it to 16 GB or more"
        )
    if small and transformers and value("MODEL_QUANTIZATION", "none").lower() == "none":
        yield (
            "transformers without quantization on less than 8 GiB of RAM: use a Q4_K_M GGUF with "
            "llama.cpp, or MODEL_QUANTIZATION=4bit"
        )
    tokens = value("MAX_INPUT_TOKENS", "").strip()
    if small and tokens.isdigit() and int(tokens) > LONG_INPUT_TOKENS:
        yield f"MAX_INPUT_TOKENS={tokens} on less than 8 GiB of RAM: 1024 is what fits well"


def _has_keys(settings: StackSettings) -> bool:
    return any(settings.values.get(name) for name in ("API_KEYS", "API_KEY", "API_KEYS_FILE"))


def _input_limit(settings: StackSettings) -> str:
    tokens = settings.values.get("MAX_INPUT_TOKENS", "").strip()
    return f"{tokens} tokens" if tokens.strip("0") else "what the model's context leaves"


def _unloading(settings: StackSettings) -> str:
    if not is_on(settings.values.get("MODEL_UNLOAD_ENABLED", "1")):
        return "off"
    seconds = settings.values.get("MODEL_IDLE_TIMEOUT", "3600")
    return f"after {seconds} s without a request (MODEL_IDLE_TIMEOUT)"


def _memory_line(found: Memory) -> str:
    if found.total_bytes is None or found.available_bytes is None:
        return "unknown"
    swap = "" if found.swap_bytes is None else f"; swap {found.swap_bytes / GIB:.1f} GiB"
    free = f"{found.available_bytes / GIB:.1f} of {found.total_bytes / GIB:.1f} GiB free"
    return free + swap
