"""`y26hkx doctor`: the machine, the settings chosen for it, which models fit, and all risks.

It loads no model and imports no model library (the self-test does, in a process of its own). The
exit status is 1 if something certainly fails.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TypeVar

import msgspec
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from chat_worker.settings import ChatSettings
from cli import doctor_checks
from cli.capacity import ModelCapacity, capacities
from cli.hardware import Hardware, free_disk_bytes, hardware
from cli.ports import gateway_answers, require_unused
from cli.selftest import kernel_memory
from cli.settings import SettingsError, StackSettings, dotenv
from cli.startup_warnings import StartupWarning, startup_warnings
from cli.summary import choice_line, cores_line, memory_line
from common.sizes import GIB
from embed_worker.settings import EmbedSettings
from gateway.settings import GatewaySettings
from worker_runtime.machine import Machine, read_machine
from worker_runtime.machine.kernel_report import KernelReport, NotTested
from worker_runtime.machine.profile import ChosenSetting, choose, size_of
from worker_runtime.settings import RuntimeSettings

T = TypeVar("T", bound=BaseSettings)
SEVERITIES = ("failure", "warning", "info")


@dataclass(frozen=True)
class Diagnosis:
    """The findings of the doctor."""

    machine: Machine
    hardware: Hardware
    free_disk_bytes: int
    profile: str
    choices: list[ChosenSetting]
    models: list[ModelCapacity]
    risks: list[StartupWarning]
    # The self-test of llama.cpp on this processor; None: not tested.
    kernels: KernelReport | None = None

    @property
    def ok(self) -> bool:
        return all(risk.severity != "failure" for risk in self.risks)


def doctor(options: Mapping[str, str], *, as_json: bool) -> int:
    """Examine everything, print it, and return the exit status."""
    try:
        settings = StackSettings.read(options)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    report = examine(settings)
    text = as_text(report) if not as_json else [json.dumps(as_dict(report), indent=2)]
    sys.stdout.writelines(f"{line}\n" for line in text)
    return 0 if report.ok else 1


def examine(settings: StackSettings) -> Diagnosis:
    """Examine this machine with these settings."""
    machine = read_machine()
    kernels, found = _kernels()
    models, of_services = examine_services(settings, machine)
    found += of_services
    found += doctor_checks.packages(models)
    found += [
        *startup_warnings(settings, machine),
        *doctor_checks.python_version(),
        *_port(settings),
    ]
    found += doctor_checks.names(settings, dotenv())
    found += doctor_checks.models_toml(settings.models_dir)
    return Diagnosis(
        machine=machine,
        hardware=hardware(),
        free_disk_bytes=free_disk_bytes(settings.models_dir),
        profile=size_of(machine, settings.values) or "off",
        choices=choose(machine, settings.values),
        models=models,
        risks=sorted(dict.fromkeys(found), key=lambda risk: SEVERITIES.index(risk.severity)),
        kernels=kernels,
    )


def as_dict(report: Diagnosis) -> dict[str, object]:
    """The findings for scripts; the keys never change."""
    machine = asdict(report.machine) | {"memory_bytes": report.machine.memory_bytes}
    machine["free_disk_bytes"] = report.free_disk_bytes
    return {
        "ok": report.ok,
        "machine": machine | asdict(report.hardware),
        "profile": {"size": report.profile, "choices": [asdict(c) for c in report.choices]},
        "kernels": msgspec.to_builtins(report.kernels),
        "models": [asdict(model) for model in report.models],
        "risks": [asdict(risk) for risk in report.risks],
    }


def as_text(report: Diagnosis) -> Iterator[str]:
    """The findings as lines for people."""
    machine, hard = report.machine, report.hardware
    yield f"system     {hard.system}, Python {hard.python}"
    yield f"processor  {hard.processor}: {cores_line(machine)}"
    yield f"           {' '.join(hard.features) or 'no features of note'}"
    if report.kernels is not None:
        yield f"kernels    {report.kernels.summary}"
    yield f"GPU        {'; '.join(hard.gpus) or 'none of NVIDIA'}"
    yield f"memory     {memory_line(machine)}"
    if machine.limit_bytes is not None:
        yield f"           limited to {machine.limit_bytes / GIB:.1f} GiB by a container or group"
    yield f"disk       {report.free_disk_bytes / GIB:.1f} GiB free for models"
    yield f"profile    {report.profile} (PROFILE)"
    for choice in report.choices:
        yield f"           {choice_line(choice)}"
    for model in report.models:
        yield f"model      {_model_line(model)}"
        if model.backend_reason:
            yield f"           {model.backend_reason}"
    for risk in report.risks:
        yield f"{risk.severity:<10} {risk}"
    yield (
        "no failures found"
        if report.ok
        else "the server will not work until the failures are fixed"
    )


def _model_line(model: ModelCapacity) -> str:
    default = f", default for {model.capability}" if model.is_default else ""
    if model.broken:
        return f"{model.id} ({model.backend}{default}): broken, {model.broken}"
    given_up = f" ({', '.join(model.reductions)})" if model.reductions else ""
    room = "" if model.room_bytes is None else f", has {max(model.room_bytes, 0) / GIB:.2f}"
    need = f"needs {model.need_bytes / GIB:.2f} GiB{room}"
    return f"{model.id} ({model.backend}{default}): {need}: {model.verdict}{given_up}"


def examine_services(
    settings: StackSettings, machine: Machine
) -> tuple[list[ModelCapacity], list[StartupWarning]]:
    """The models, and the problems of the services' settings, models and folders."""
    gateway = _read(GatewaySettings)
    chat, embed = _read(ChatSettings), _read(EmbedSettings)
    refused = [error for error in (gateway, chat, embed) if isinstance(error, ValidationError)]
    found = [risk for error in refused for risk in doctor_checks.invalid_settings(error)]
    if not isinstance(chat, ChatSettings) or not isinstance(embed, EmbedSettings):
        return [], found
    models = capacities(chat, embed, machine)
    found += doctor_checks.default_models(models, machine)
    found += doctor_checks.main_model(chat, models)
    found += doctor_checks.folders(settings, embed)
    return models, found


def _kernels() -> tuple[KernelReport | None, list[StartupWarning]]:
    settings = _read(RuntimeSettings)
    if isinstance(settings, ValidationError):
        # The same error is reported for each service.
        return None, []
    memory = kernel_memory(settings)
    try:
        report = memory.report()
    except NotTested:
        # The library is missing, which is reported for each model that needs it.
        return None, []
    return report, list(doctor_checks.kernels(report, memory.read().faults))


def _read(service: type[T]) -> T | ValidationError:
    try:
        # Loopback, as in the stack; `startup_warnings` has the risks of other addresses.
        return service(host="127.0.0.1")
    except ValidationError as error:
        return error


def _port(settings: StackSettings) -> Iterator[StartupWarning]:
    if not settings.port and not settings.socket:
        return
    try:
        require_unused(settings, settings.port)
    except SettingsError as error:
        if gateway_answers(settings.address()):
            where = str(settings.address())
            yield StartupWarning(
                "already_serving", "info", f"a server already answers at {where}", "see /health"
            )
        else:
            yield StartupWarning("port_taken", "failure", str(error), "set another one")
