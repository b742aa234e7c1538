"""gRPC still has the poller that we choose, and choosing it still keeps its threads out."""

import subprocess
import sys

import pytest

from common.grpc_experiments import EARLIER_POLLER

N_CALLS = 300
# Calls over a real socket; then how often the event engine's threads ran meanwhile.
CALLS = f"""
import asyncio, grpc, grpc.aio
from pathlib import Path

def n_runs():
    found = 0
    for thread in Path("/proc/self/task").iterdir():
        if (thread / "comm").read_text().strip() == "event_engine":
            found += int((thread / "schedstat").read_text().split()[2])
    return found

async def echo(request, context):
    return request

async def main():
    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("s", {{"m": method}}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{{port}}") as channel:
        call = channel.unary_unary("/s/m")
        await call(b"first")
        before = n_runs()
        for _ in range({N_CALLS}):
            await call(b"x")
        print(n_runs() - before)
    await server.stop(0)

asyncio.run(main())
"""


def calls(experiments: str) -> tuple[int, str]:
    """How often threads of the event engine ran during the calls; and what gRPC complained of."""
    done = subprocess.run(
        [sys.executable, "-c", CALLS],
        capture_output=True,
        text=True,
        check=True,
        env={"GRPC_EXPERIMENTS": experiments},
    )
    return int(done.stdout), done.stderr


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="set where it was measured")


def test_grpc_knows_the_names_and_complains_of_others() -> None:
    assert "Unknown experiment" not in calls(EARLIER_POLLER)[1]
    assert "Unknown experiment: another" in calls("-another")[1]


def test_calls_stay_out_of_the_event_engines_threads() -> None:
    assert calls(EARLIER_POLLER)[0] < N_CALLS / 4
    assert calls("")[0] > N_CALLS / 2, "else the count says nothing"
