"""The real supervisor over stub services: `python -m tests.unit.cli.stub_stack FOLDER MODE…`.

MODE is name=mode for each of the services front, left, right.
"""

import asyncio
import logging
import os
import sys
from functools import partial
from pathlib import Path

from cli.address import Address
from cli.backoff import RestartPolicy
from cli.liveness import http_status
from cli.output import LogLines, Output, open_standard_streams, stdout_unbuffered
from cli.ports import free_ports
from cli.service import ServiceSpec, WatchPolicy
from cli.settings import StackSettings
from cli.supervisor import Supervisor


def main() -> int:
    open_standard_streams()
    folder = Path(sys.argv[1])
    (folder / "supervisor.pid").write_text(str(os.getpid()))
    modes = dict(mode.split("=") for mode in sys.argv[2:])
    env = dict(StackSettings.read({}).inherited)
    specs = []
    names = ["front", "left", "right"]
    for name, port in zip(names, free_ports(len(names), "127.0.0.1"), strict=True):
        (folder / f"{name}.port").write_text(str(port))
        specs.append(
            ServiceSpec(
                name=name,
                command=[
                    *(sys.executable, "-m", "tests.unit.cli.stub_service"),
                    *(name, str(folder), modes.get(name, "normal")),
                ],
                env=env,
                answers=partial(http_status, Address("127.0.0.1", port), "/health/live", 1),
                drain_s=30,
                essential=name == "front",
                gets_conditions=name == "front",
            )
        )
    output = Output(stdout_unbuffered())
    supervisor = Supervisor(
        [specs[:1], specs[1:]],
        output,
        restart=RestartPolicy(
            first_s=0.05, longest_s=0.2, n_in_window=3, open_s=0.2, longest_open_s=0.4, n_tries=3
        ),
        watch=WatchPolicy(every_s=0.2, again_s=0.1, silent_s=3, first_within_s=8),
    )
    logging.basicConfig(handlers=[LogLines(supervisor.print_line)])
    try:
        return asyncio.run(supervisor.run(partial(asyncio.sleep, 0)))
    finally:
        output.close(1)


if __name__ == "__main__":
    sys.exit(main())
