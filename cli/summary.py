"""The lines that the stack prints at its start: address, machine, settings, and risks."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from cli.settings import StackSettings
from cli.startup_warnings import has_keys, never_unloads, startup_warnings
from common.sizes import GIB
from worker_runtime.machine import Machine
from worker_runtime.machine.profile import ChosenSetting, size_of

DOCS = "README.md, docs/faq.md; /openapi.json of the running server for the API"


def summary(
    settings: StackSettings,
    port: int,
    machine: Machine,
    choices: Sequence[ChosenSetting],
    gpus: Sequence[str] = (),
) -> Iterator[str]:
    """The lines to print."""
    address = settings.address(port)
    if settings.socket:
        yield f"OpenAI base URL  {address.url}/v1 by the Unix socket {settings.socket}"
    else:
        if settings.has_console:
            yield f"console          {address.url}/  (chat, models, live figures, the API)"
        yield f"OpenAI base URL  {address.url}/v1  (listening on {settings.host})"
    if settings.ollama_port:
        yield f"Ollama's API     {replace(address, port=settings.ollama_port).url}"
    yield f"models           {settings.models_dir}"
    yield f"processor        {cores_line(machine)}; GPU {'; '.join(gpus) or 'none of NVIDIA'}"
    yield f"memory           {memory_line(machine)}"
    yield f"API keys         {'set' if has_keys(settings) else 'none: local programs need no key'}"
    yield f"profile          {size_of(machine, settings.values) or 'off'} (PROFILE)"
    for choice in choices:
        yield f"  {choice_line(choice)}"
    yield f"input limit      {_input_limit(settings)} (MAX_INPUT_TOKENS)"
    if never_unloads(settings):
        yield "idle unloading   off (MODEL_IDLE_TIMEOUT)"
    if settings.chat_workers is not None:
        yield f"chat workers     {settings.chat_workers or 'none'} (CHAT_WORKERS is set)"
    if settings.embed_workers is not None:
        yield f"embed workers    {settings.embed_workers or 'none'} (EMBED_WORKERS is set)"
    for risk in startup_warnings(settings, machine):
        yield f"risk             {risk}"
    for note in settings.deprecated:
        yield f"old setting      {note}"
    yield f"docs             {DOCS}"


def choice_line(choice: ChosenSetting) -> str:
    return f"{choice.name}={choice.value}: {choice.reason}"


def cores_line(machine: Machine) -> str:
    return f"{machine.physical_cores} cores ({machine.cores} threads)"


def memory_line(machine: Machine) -> str:
    if machine.memory_bytes is None or machine.available_bytes is None:
        return "unknown"
    swap = "" if machine.swap_bytes is None else f"; swap {machine.swap_bytes / GIB:.1f} GiB"
    free = f"{machine.available_bytes / GIB:.1f} of {machine.memory_bytes / GIB:.1f} GiB free"
    return free + swap


def _input_limit(settings: StackSettings) -> str:
    tokens = settings.values.get("MAX_INPUT_TOKENS", "").strip()
    return f"{tokens} tokens" if tokens.strip("0") else "what the model's context leaves"
