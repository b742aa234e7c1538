"""`y26hkx stop`: ends the server that runs here, after its running requests."""

import argparse
import time

import psutil

from cli.commands.failure import CommandError
from cli.commands.printing import write, write_json
from cli.commands.server import Server
from cli.running import read_record
from cli.settings import StackSettings

WITHIN_S = 90.0
LOOK_EVERY_S = 0.1
# How far the two clocks may differ.
CLOCK_S = 2.0


def stop(chosen: argparse.Namespace) -> int:
    """Stop the server of this user at the address of the settings."""
    settings = StackSettings.read({})
    address = settings.address()
    record = read_record(settings.own_folder, address)
    process = _process(record) if record else None
    if process is None:
        hint = "it was not started by y26hkx serve here" if Server().runs() else "none runs"
        raise CommandError(f"no server to stop at {address}: {hint}")
    # Windows ends the supervisor at once; its services notice, and drain all the same.
    process.terminate()
    if not _ends(process):
        raise CommandError(f"process {process.pid} has not ended within {WITHIN_S:.0f} s")
    if chosen.json:
        write_json({"stopped": True, "pid": process.pid, "port": address.port})
    else:
        write(f"stopped the server at {address}")
    return 0


def _ends(process: psutil.Process) -> bool:
    """Wait until the process has ended, also if its parent has not noticed."""
    deadline_s = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline_s:
        try:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(LOOK_EVERY_S)
    return False


def _process(record: dict[str, float]) -> psutil.Process | None:
    """The supervisor's process; None if it has ended, and its number may be another's."""
    try:
        process = psutil.Process(int(record["pid"]))
        # A process that began later has only the same number.
        is_same = process.create_time() <= record["at_s"] + CLOCK_S and "serve" in process.cmdline()
    except (psutil.Error, ValueError, OverflowError):
        return None
    return process if is_same else None
