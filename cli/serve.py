"""`y26hkx serve`: gateway, chat worker and embedding worker as one supervised stack."""

import asyncio
import contextlib
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

from cli.address import Address
from cli.liveness import ANSWER_WITHIN_S, OK, http_status
from cli.log_file import KeptLines, log_file
from cli.output import LogLines, Output, open_standard_streams, stdout_unbuffered
from cli.ports import free_ports, gateway_answers, require_free, require_unused
from cli.running import recorded
from cli.service import WRONG_SETTINGS, StackFailed
from cli.settings import SettingsError, StackSettings
from cli.stack import stages
from cli.startup_warnings import has_keys, startup_warnings
from cli.summary import summary
from cli.supervisor import Supervisor
from common.parent_watch import exit_with_parent
from common.secret_variables import without_secrets
from worker_runtime.machine import read_machine
from worker_runtime.machine.gpus import gpus
from worker_runtime.machine.profile import choose

LOOK_FAST_FOR_S = 20.0
# At the end a slow reader gets this time for the last lines.
LAST_LINES_WITHIN_S = 1.0
INTERRUPTED = 130
# A third of the processor where the services want all of it.
LOW_PRIORITY = 5
# Of the line that the checks before the start print.
REPORT_BYTES = 1 << 20


def serve(options: Mapping[str, str], *, key_if_none: bool = False) -> int:
    """Run the stack until a signal stops it, and return the exit status.

    Args:
        options: settings from the command line, by their variables' names.
        key_if_none: where no API key is set, make one for this run and print it.
    """
    began = time.monotonic()
    open_standard_streams()
    try:
        settings = StackSettings.read(options)
        made_key = new_key() if key_if_none and not has_keys(settings) else ""
        if made_key:
            settings = StackSettings.read({**options, "API_KEYS": made_key})
        port = settings.port or free_ports(1, settings.host)[0]
        _require_own(settings, port)
        if settings.ollama_port:
            require_free(settings.host, settings.ollama_port)
        _refuse_exposure(settings)
    except (SettingsError, OSError) as error:
        # stderr may be closed already; the exit status reports the error all the same.
        with contextlib.suppress(OSError):
            sys.stderr.write(f"y26hkx cannot start: {error}\n")
        return WRONG_SETTINGS
    kept = log_file(settings.own_folder, port)
    output = Output(KeptLines(stdout_unbuffered(), kept, made_key))
    try:
        with recorded(settings.own_folder, settings.address(port)):
            return asyncio.run(_serve(settings, port, began, output, made_key))
    except KeyboardInterrupt:
        # Ctrl-C came before the supervisor handles signals, when no service runs yet.
        return INTERRUPTED
    finally:
        output.close(LAST_LINES_WITHIN_S)


async def _serve(
    settings: StackSettings, port: int, began: float, output: Output, made_key: str
) -> int:
    machine = read_machine()
    choices = choose(machine, settings.values)
    supervisor = Supervisor(stages(settings, port, choices), output)
    logging.basicConfig(handlers=[LogLines(supervisor.print_line)])
    for line in summary(settings, port, machine, choices, gpus()):
        supervisor.print_line(line)
    if made_key:
        supervisor.print_line(f"API key          {made_key} (for this run, as API_KEYS is not set)")

    async def announce() -> None:
        await _tell_findings(settings, supervisor.print_line)
        address = settings.address(port)
        await _until_ready(address, began)
        supervisor.print_line(f"ready in {time.monotonic() - began:.1f} s: {address}")

    if settings.exit_with_parent:
        exit_with_parent()
    return await supervisor.run(announce)


async def _tell_findings(settings: StackSettings, print_line: Callable[[str], None]) -> None:
    """Print what the doctor finds wrong, and the models. The services start meanwhile.

    Raises:
        StackFailed: it is so wrong that they must end again.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.preflight"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env=without_secrets(settings.inherited),
        limit=REPORT_BYTES,
        creationflags=getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0),
    )
    if sys.platform != "win32":
        # The services need the processor more: nobody waits for this before the first answer.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, LOW_PRIORITY)
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if not line:
        # The reason is on stderr; the services find what is wrong themselves.
        return
    report = json.loads(line)
    for risk in report["risks"]:
        print_line(f"risk             {risk}")
    for found in report["models"]:
        print_line(found)
    if report["refused"]:
        for failure in report["refused"]:
            print_line(f"failure          {failure}")
        raise StackFailed("cannot start with these settings", WRONG_SETTINGS)


def _refuse_exposure(settings: StackSettings) -> None:
    """
    Raises:
        SettingsError: others could call, and nobody would ask them for a key.
    """
    warnings = startup_warnings(settings, read_machine())
    if failure := next((w for w in warnings if w.severity == "failure"), None):
        raise SettingsError(str(failure))


def new_key() -> str:
    """A random key for clients, of 192 bits."""
    return f"sk-{os.urandom(24).hex()}"


def _require_own(settings: StackSettings, port: int) -> None:
    """
    Raises:
        SettingsError: the port or socket is taken; the message tells whether by a server of ours.
    """
    try:
        require_unused(settings, port)
    except SettingsError:
        address = settings.address(port)
        if not gateway_answers(address):
            raise
        raise SettingsError(
            f"a server already answers at {address}; use it (y26hkx chat), "
            "stop it (y26hkx stop), or choose another --port"
        ) from None


async def _until_ready(address: Address, began: float) -> None:
    while True:
        try:
            if await http_status(address, "/health/ready", ANSWER_WITHIN_S) == OK:
                return
        except (OSError, TimeoutError):
            pass
        slow = time.monotonic() - began > LOOK_FAST_FOR_S
        await asyncio.sleep(2.0 if slow else 0.1)
