"""`y26hkx service install|status|uninstall`: the server as a service of this user: a systemd
user unit, a launch agent of macOS, or a scheduled task of Windows."""

import argparse
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from cli.commands.failure import CommandError
from cli.commands.printing import write, write_json
from cli.commands.server import Server
from cli.settings import StackSettings
from common.folders import service_folder

NAME = "y26hkx"
LABEL = "local.y26hkx"
WITHIN_S = 60
Command = Sequence[str]


@dataclass(frozen=True)
class Service:
    """
    Args:
        file: what describes it to the system.
        content: of the file.
        start, stop: commands, run after the file is written and before it is removed.
        status: a command whose status is 0 while it runs.
    """

    kind: str
    file: Path
    content: str
    start: Sequence[Command]
    stop: Sequence[Command]
    status: Command


def service(chosen: argparse.Namespace) -> int:
    """Install, remove or look at the service."""
    folder = service_folder(sys.platform, StackSettings.read({}).inherited)
    works_in = Path.cwd() if Path("models").is_dir() or Path(".env").is_file() else Path.home()
    found = service_of(sys.platform, folder, sys.executable, works_in)
    if chosen.print:
        write(f"{found.file}:\n\n{found.content}")
        steps = found.stop if chosen.action == "uninstall" else found.start
        write("\n".join(shlex.join(step) for step in steps))
        return 0
    actions = {"install": _install, "uninstall": _uninstall, "status": _status}
    return actions[chosen.action](found, as_json=chosen.json)


def service_of(system: str, folder: Path, python: str, works_in: Path) -> Service:
    """The service of a system.

    Args:
        system: as `sys.platform`.
        folder: where the system's services of this user are described.
        python: the interpreter that has this package.
        works_in: the folder whose `.env` and `models` the server uses.
    """
    kinds = {"win32": _task, "darwin": _agent}
    return kinds.get(system, _unit)(folder, [python, "-m", "cli", "serve"], works_in)


def _unit(folder: Path, command: Command, works_in: Path) -> Service:
    """https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html"""
    quoted = " ".join(_in_unit(word) for word in command)
    content = f"""\
[Unit]
Description=Y26HKX, a local model server

[Service]
ExecStart={quoted}
WorkingDirectory={_specifiers(str(works_in))}
Restart=on-failure
RestartPreventExitStatus=2
TimeoutStopSec=60

[Install]
WantedBy=default.target
"""
    control = ("systemctl", "--user")
    name = f"{NAME}.service"
    return Service(
        "systemd user unit",
        folder / name,
        content,
        [(*control, "daemon-reload"), (*control, "enable", "--now", name)],
        [(*control, "disable", "--now", name)],
        (*control, "is-active", "--quiet", name),
    )


def _agent(folder: Path, command: Command, works_in: Path) -> Service:
    """https://developer.apple.com/library/archive/documentation/MacOSX/Conceptual/BPSystemStartup"""
    words = "".join(f"<string>{escape(word)}</string>" for word in command)
    file = folder / f"{LABEL}.plist"
    content = f"""\
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key><string>{LABEL}</string>
  <key>ProgramArguments</key><array>{words}</array>
  <key>WorkingDirectory</key><string>{escape(str(works_in))}</string>
  <key>RunAtLoad</key><true/>
  <key>KeepAlive</key><dict><key>Crashed</key><true/></dict>
</dict>
</plist>
"""
    control = "launchctl"
    return Service(
        "launch agent",
        file,
        content,
        [(control, "load", "-w", str(file))],
        [(control, "unload", "-w", str(file))],
        (control, "list", LABEL),
    )


def _task(folder: Path, command: Command, works_in: Path) -> Service:
    """https://learn.microsoft.com/windows/win32/taskschd/task-scheduler-schema"""
    python, *arguments = command
    # Without a window, where Python has that.
    windowless = Path(python).with_name("pythonw.exe")
    python = str(windowless) if windowless.is_file() else python
    file = folder / f"{NAME}-task.xml"
    content = f"""\
<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <Triggers><LogonTrigger><Enabled>true</Enabled></LogonTrigger></Triggers>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <RestartOnFailure><Interval>PT1M</Interval><Count>3</Count></RestartOnFailure>
  </Settings>
  <Actions>
    <Exec>
      <Command>{escape(python)}</Command>
      <Arguments>{escape(subprocess.list2cmdline(arguments))}</Arguments>
      <WorkingDirectory>{escape(str(works_in))}</WorkingDirectory>
    </Exec>
  </Actions>
</Task>
"""
    control = "schtasks"
    return Service(
        "scheduled task",
        file,
        content,
        [
            (control, "/Create", "/F", "/TN", NAME, "/XML", str(file)),
            (control, "/Run", "/TN", NAME),
        ],
        [(control, "/End", "/TN", NAME), (control, "/Delete", "/F", "/TN", NAME)],
        (control, "/Query", "/TN", NAME),
    )


def _in_unit(word: str) -> str:
    """A word of a command line, as systemd reads them."""
    quoted = _specifiers(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{quoted}"'


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")


def _install(found: Service, *, as_json: bool) -> int:
    _require(found)
    try:
        found.file.parent.mkdir(parents=True, exist_ok=True)
        is_task = found.file.suffix == ".xml"
        found.file.write_text(found.content, "utf-16" if is_task else "utf-8")
    except OSError as error:
        raise CommandError(f"{found.file} cannot be written: {error.strerror}") from error
    for step in found.start:
        _do(step)
    _say(f"installed the {found.kind}; it starts with each session: {found.file}", found, as_json)
    return 0


def _uninstall(found: Service, *, as_json: bool) -> int:
    if not found.file.is_file():
        raise CommandError("no service is installed")
    _require(found)
    for step in found.stop:
        _do(step)
    found.file.unlink()
    _say(f"removed the {found.kind}", found, as_json)
    return 0


def _status(found: Service, *, as_json: bool) -> int:
    is_installed = found.file.is_file()
    runs = is_installed and shutil.which(found.status[0]) is not None
    runs = (
        runs and subprocess.run(found.status, capture_output=True, timeout=WITHIN_S).returncode == 0
    )
    facts = {
        "kind": found.kind,
        "file": str(found.file),
        "installed": is_installed,
        "running": runs,
        "answers": Server().runs(),
    }
    if as_json:
        write_json(facts)
    else:
        for name, value in facts.items():
            write(f"{name:<10}{value}")
    return 0


def _require(found: Service) -> None:
    if shutil.which(found.status[0]) is None:
        raise CommandError(
            f"{found.status[0]} is not there, by which this system runs a {found.kind}",
            ["--print shows what would be done"],
        )


def _do(step: Command) -> None:
    try:
        done = subprocess.run(step, capture_output=True, text=True, timeout=WITHIN_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"{shlex.join(step)}: {error}") from error
    if done.returncode:
        reason = (done.stderr or done.stdout).strip()[-500:]
        raise CommandError(f"{shlex.join(step)} failed: {reason}")


def _say(text: str, found: Service, as_json: bool) -> None:
    if as_json:
        write_json({"kind": found.kind, "file": str(found.file)})
    else:
        write(text)
