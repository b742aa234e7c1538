"""What `y26hkx service` tells each system."""

import plistlib
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from cli.commands.service import service_of

PYTHON = '/opt/a "b" %h $HOME\\x/python'
TASK = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"


def test_a_systemd_unit_runs_this_python_whatever_its_name(tmp_path: Path) -> None:
    found = service_of("linux", tmp_path, PYTHON, Path("/srv/100%"))
    line = next(line for line in found.content.splitlines() if line.startswith("ExecStart="))
    assert line == 'ExecStart="/opt/a \\"b\\" %%h $$HOME\\\\x/python" "-m" "cli" "serve"'
    assert "WorkingDirectory=/srv/100%%\n" in found.content
    # Wrong settings stay wrong.
    assert "RestartPreventExitStatus=2" in found.content
    assert found.file == tmp_path / "y26hkx.service"


def test_a_launch_agent_and_a_task_name_the_same_command(tmp_path: Path) -> None:
    odd = "/opt/<a> & b/python"
    agent = plistlib.loads(service_of("darwin", tmp_path, odd, tmp_path).content.encode())
    assert agent["ProgramArguments"] == [odd, "-m", "cli", "serve"]
    assert agent["WorkingDirectory"] == str(tmp_path)
    task = ElementTree.fromstring(
        service_of("win32", tmp_path, odd, tmp_path).content.partition("?>\n")[2]
    )
    run = task.find(f"{TASK}Actions/{TASK}Exec")
    assert run is not None
    assert [each.text for each in run] == [odd, "-m cli serve", str(tmp_path)]


@pytest.mark.skipif(sys.platform == "win32", reason="a script stands for systemctl")
def test_a_service_is_installed_looked_at_and_removed(tmp_path: Path) -> None:
    """With a stand-in for systemctl that notes what it is asked."""
    programs = tmp_path / "bin"
    programs.mkdir()
    script = programs / "systemctl"
    script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    script.chmod(0o755)
    env = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONUTF8": "1"}

    def said(action: str, status: int = 0) -> str:
        command = [sys.executable, "-m", "cli", "service", action]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    unit = tmp_path / ".config/systemd/user/y26hkx.service"
    assert str(unit) in said("install")
    assert unit.is_file()
    assert "installed True" in said("status")
    assert "removed" in said("uninstall")
    assert not unit.exists()
    assert "no service is installed" in said("uninstall", status=1)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == [
        "--user daemon-reload",
        "--user enable --now y26hkx.service",
        "--user is-active --quiet y26hkx.service",
        "--user disable --now y26hkx.service",
    ]
