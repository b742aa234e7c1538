"""`y26hkx stop`: ends the server that runs here, after its running requests."""

import argparse

import psutil

from cli.commands.failure import CommandError
from cli.commands.printing import write, write_json
from cli.commands.server import Server
from cli.running import read_record
from cli.settings import StackSettings

WITHIN_S = 90.0


def stop(chosen: argparse.Namespace) -> int:
    """Stop the server of this user on the port of the settings."""
    port = StackSettings.read({}).port
    record = read_record(port)
    process = _process(record) if record else None
    if process is None:
        hint = "it was not started by y26hkx serve here" if Server().runs() else "none runs"
        raise CommandError(f"no server to stop on port {port}: {hint}")
    # Windows ends the supervisor at once; its services notice, and drain all the same.
    process.terminate()
    gone, _ = psutil.wait_procs([process], timeout=WITHIN_S)
    if not gone:
        raise CommandError(f"process {process.pid} has not ended within {WITHIN_S:.0f} s")
    if chosen.json:
        write_json({"stopped": True, "pid": process.pid, "port": port})
    else:
        write(f"stopped the server on port {port}")
    return 0


def _process(record: dict[str, float]) -> psutil.Process | None:
    """The supervisor's process; None if it has ended, and its number may be another's."""
    try:
        process = psutil.Process(int(record["pid"]))
        is_same = abs(process.create_time() - record["created_s"]) < 2
    except (psutil.Error, KeyError, ValueError, OverflowError):
        return None
    return process if is_same else None
