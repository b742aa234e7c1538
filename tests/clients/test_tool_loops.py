"""Tool loops of other people's clients, streamed, over two turns, against the real stack.

The built-in model must call at first; then it answers as it likes. What counts is that each client
understands every reply, and that the server takes back what each client makes of it.
"""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.clients import python_loops
from tests.clients.installed_clients import (
    INSTALL_WITHIN_S,
    node_with_clients,
    python_with_clients,
    version_of_package,
)
from tests.clients.test_clients import HERE
from tests.running_stack import RunningStack

# The first run installs the clients, and importing them takes up to half a minute.
RUN_WITHIN_S = 150
pytestmark = pytest.mark.timeout(INSTALL_WITHIN_S + RUN_WITHIN_S)
PYTHON = [client.__name__ for client in python_loops.CLIENTS]
JAVASCRIPT = {"ai": "ai", "ai_chat": "ai", "agents": "@openai/agents"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with RunningStack(tmp_path_factory.mktemp("loops") / "log") as running:
        yield running


@pytest.mark.parametrize("client", PYTHON)
def test_a_python_client_goes_through_its_loop(
    stack: RunningStack, client: str, record_property: Callable[[str, object], None]
) -> None:
    script = str(HERE / "python_loops.py")
    found = _run([str(python_with_clients()), script, client, f"{stack.base_url}/v1"])
    _check(found, client, record_property)


@pytest.mark.parametrize("client", JAVASCRIPT)
def test_a_javascript_client_goes_through_its_loop(
    stack: RunningStack, client: str, record_property: Callable[[str, object], None]
) -> None:
    node, folder = node_with_clients()
    script = shutil.copy(HERE / "javascript_loops.mjs", folder)
    found = _run([node, str(script), client, f"{stack.base_url}/v1"])
    found["version"] = version_of_package(JAVASCRIPT[client])
    _check(found, f"{JAVASCRIPT[client]} ({client}, JavaScript)", record_property)


def _run(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_WITHIN_S)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _check(
    found: dict[str, Any], client: str, record_property: Callable[[str, object], None]
) -> None:
    assert found["calls"]
    for arguments in map(json.loads, found["calls"]):
        assert arguments["city"] in ("Bern", "Oslo")
    assert found["answer"]
    assert found["second"]
    # What `python -m tests.compatibility clients` makes its table of.
    record_property(client, f"{found['version']}; 2; {len(found['calls'])}; yes")
