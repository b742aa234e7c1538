"""Risks that only the doctor looks for: names, packages, models, folders."""

import difflib
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import AliasChoices, ValidationError
from pydantic_settings import BaseSettings

from chat_worker.settings import DEFAULT_MODEL_PATH, ChatSettings
from cli.capacity import ModelCapacity
from cli.hardware import free_disk_bytes, nearest
from cli.settings import StackSettings
from cli.startup_warnings import Severity, StartupWarning
from common.deprecated_settings import DEPRECATED
from common.sizes import GIB
from downloads.settings import DownloadSettings
from embed_worker.settings import EmbedSettings
from gateway.settings import GatewaySettings
from simple.settings import SimpleSettings
from worker_runtime.libraries import OF_BACKENDS, install_command, missing_modules
from worker_runtime.machine import Machine
from worker_runtime.machine.kernel_memory import Fault
from worker_runtime.machine.kernel_report import KernelReport
from worker_runtime.model_files.models_toml import ModelsToml

SERVICES: tuple[type[BaseSettings], ...] = (
    GatewaySettings,
    SimpleSettings,
    ChatSettings,
    EmbedSettings,
    DownloadSettings,
)
# Read by docker compose, run.py and the commands, not by the services.
OTHER_NAMES = {
    *("Y26HKX_BIND", "Y26HKX_PORT", "Y26HKX_DOMAIN", "GRAFANA_PORT"),
    *("GATEWAY_MEMORY", "CHAT_MEMORY", "EMBED_MEMORY", "CHAT_CPUS", "EMBED_CPUS"),
    *("CHAT_EXTRAS", "EMBED_EXTRAS", "PYTHON_IMAGE"),
    *("REDIS_IMAGE", "PROMETHEUS_IMAGE", "GRAFANA_IMAGE", "CADDY_IMAGE"),
    *("Y26HKX_HOME", "Y26HKX_TORCH", "Y26HKX_LLAMA"),
    *("API_KEY", "Y26HKX_API_KEY"),
}
LIKENESS = 0.85
LOW_DISK_BYTES = 2 * GIB
GATEWAY_PACKAGES = ("fastapi", "uvicorn", "orjson", "limits")
# Run in a separate process, which crashes if the library was built for another processor.
TRY_LLAMA = "from worker_runtime.llama_native import load_native; load_native()"
PROJECT = Path(__file__).parent.parent
TRY_WITHIN_S = 10.0


def invalid_settings(error: ValidationError) -> Iterator[StartupWarning]:
    """Each value with which a service would refuse to start."""
    for found in error.errors():
        name = ".".join(map(str, found["loc"]))
        reason = found["msg"].removeprefix("Value error, ")
        message = f"{name}: {reason}" if name else reason
        yield StartupWarning(
            "invalid_setting", "failure", message, "correct it: no service starts with it"
        )


def names(settings: StackSettings, dotenv: Collection[str]) -> Iterator[StartupWarning]:
    """Deprecated variables, and those that look like settings and are not.

    Args:
        dotenv: names in the .env file, of which all should be known.
    """
    known = _known_names()
    for note in settings.deprecated:
        yield StartupWarning(
            "deprecated_setting", "info", note, "docs/operations.md lists all such names"
        )
    for name in sorted(settings.values.keys() - known):
        like = difflib.get_close_matches(name, known, 1, LIKENESS)
        if like:
            message, suggestion = f"{name} is no setting of this server", f"did you mean {like[0]}?"
            # The environment has variables of other programs, too.
            severity: Severity = "failure" if name in dotenv else "warning"
            yield StartupWarning("unknown_name", severity, message, suggestion)
        elif name in dotenv:
            message = f"{name} in .env is no setting of this server"
            yield StartupWarning(
                "unknown_name", "info", message, "remove it, or look it up in .env.example"
            )


def packages(models: Sequence[ModelCapacity]) -> Iterator[StartupWarning]:
    """Missing libraries that the gateway or the default models need."""
    missing = _missing(GATEWAY_PACKAGES)
    if missing:
        message = f"the gateway needs {', '.join(missing)}"
        yield StartupWarning("missing_package", "failure", message, install_command("gateway"))
    for model in models:
        if model.is_default and (problem := _backend_problem(model.backend)):
            yield StartupWarning(
                "missing_package",
                "failure" if model.capability == "chat" else "warning",
                f"{model.id} needs {problem}",
                install_command(OF_BACKENDS[model.backend].extra),
            )


def kernels(report: KernelReport, faults: Mapping[str, Fault]) -> Iterator[StartupWarning]:
    """Failures of llama.cpp's self-test, and models that crashed with the extra CPU buffers."""
    again = "`python3 run.py setup` compiles it again for this processor"
    if not report.runs_here:
        yield StartupWarning("kernels_broken", "failure", report.summary, again)
    elif not report.may_use_extra_buffers:
        yield StartupWarning("kernels_reduced", "warning", report.summary, f"it is slower; {again}")
    for fault in faults.values():
        yield StartupWarning(
            "model_without_extra_buffers",
            "warning",
            f"{fault.model} is loaded without llama.cpp's extra CPU buffers, as its process died "
            f"with them ({fault.how})",
            "`y26hkx selftest --again` discards this, so that they are tried again",
        )


def default_models(models: Sequence[ModelCapacity], machine: Machine) -> Iterator[StartupWarning]:
    """Whether the models that serve requests without a name can be loaded."""
    for model in models:
        if not model.is_default:
            continue
        if model.broken:
            message = f"{model.id} cannot be loaded: {model.broken}"
            yield StartupWarning(
                "default_model_broken", "failure", message, "download its files again"
            )
        elif machine.memory_bytes is not None and model.least_bytes > machine.memory_bytes:
            yield StartupWarning(
                "default_model_too_large",
                "failure",
                f"{model.id} needs {model.least_bytes / GIB:.1f} GiB, and the machine has "
                f"{machine.memory_bytes / GIB:.1f}",
                "choose a smaller model or quantization, or raise the container's limit",
            )
        elif model.verdict == "does not fit":
            yield StartupWarning(
                "default_model_tight",
                "warning",
                f"{model.id} needs {model.need_bytes / GIB:.1f} GiB, more than is free now",
                "end other programs, or choose a smaller model or quantization",
            )


def main_model(chat: ChatSettings, models: Sequence[ModelCapacity]) -> Iterator[StartupWarning]:
    """A main model that is set and does not exist."""
    named = chat.model_path.name.removesuffix(".gguf")
    # A backend of a third party may have other names for models.
    if chat.plugin or chat.model_path == DEFAULT_MODEL_PATH or chat.model_path.exists():
        return
    serves = next((m.id for m in models if m.is_default and m.capability == "chat"), "nothing")
    message = f"MODEL_PATH: {chat.model_path} does not exist; {serves} would answer for {named}"
    yield StartupWarning(
        "main_model_missing", "failure", message, "set MODEL_PATH to a model's file"
    )


def folders(settings: StackSettings, embed: EmbedSettings) -> Iterator[StartupWarning]:
    """Folders that are missing, unreadable, unwritable or full."""
    models = settings.models_dir
    if not models.is_dir():
        asked = "MODELS_DIR" in settings.values
        message = f"the folder {models} does not exist: only built-in models are served"
        yield StartupWarning(
            "no_models_folder", "failure" if asked else "info", message, "create it"
        )
    elif not os.access(models, os.R_OK | os.X_OK):
        message = f"the models folder {models} cannot be read"
        yield StartupWarning(
            "unreadable_models_folder", "failure", message, "change its permissions"
        )
    if (free := free_disk_bytes(models)) < LOW_DISK_BYTES:
        message = f"only {free / GIB:.1f} GiB of disk space are free at {models}"
        yield StartupWarning(
            "low_disk", "warning", message, "free disk space before downloading models"
        )
    if not _writable(embed.converted_dir):
        message = f"{embed.converted_dir} is not writable: converted models cannot be stored"
        yield StartupWarning(
            "unwritable_folder", "failure", message, "set CONVERTED_MODELS_DIR to another folder"
        )


def models_toml(folder: Path) -> Iterator[StartupWarning]:
    """What is wrong with models.toml, which a running server would only log."""
    options = ModelsToml(folder)
    options.read()
    if options.problem:
        yield StartupWarning(
            "models_toml_wrong", "failure", options.problem, "docs/models-folder.md has an example"
        )


def python_version(found: tuple[int, int] = sys.version_info[:2]) -> Iterator[StartupWarning]:
    """A Python that is too old."""
    if found < (3, 11):
        message = f"Python {found[0]}.{found[1]} is too old"
        yield StartupWarning("old_python", "failure", message, "install Python 3.11 or newer")


def _known_names() -> set[str]:
    known = OTHER_NAMES | {old.name for old in DEPRECATED}
    for service in SERVICES:
        for name, field in service.model_fields.items():
            alias = field.validation_alias
            choices = alias.choices if isinstance(alias, AliasChoices) else [alias or name]
            known |= {str(choice).upper() for choice in choices}
    return known


def _backend_problem(backend: str) -> str:
    """The missing packages of `backend`, in words; empty: none."""
    if backend in ("llama.cpp", "llama.cpp-reranker"):
        return "" if _llama_runs() else "llama-cpp-python, which is missing or does not run here"
    return ", ".join(missing_modules(backend))


def _llama_runs() -> bool:
    command = [sys.executable, "-c", TRY_LLAMA]
    try:
        tried = subprocess.run(
            command, cwd=PROJECT, capture_output=True, timeout=TRY_WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return tried.returncode == 0


def _missing(modules: Sequence[str]) -> list[str]:
    return [module for module in modules if importlib.util.find_spec(module) is None]


def _writable(folder: Path) -> bool:
    # Written to, because a folder can be unwritable for other reasons than its permissions.
    try:
        with tempfile.TemporaryFile(dir=nearest(folder)):
            return True
    except OSError:
        return False
