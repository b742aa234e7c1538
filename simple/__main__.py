"""`python -m simple [--host H] [--port P]`: the simple server, on SIMPLE_PORT."""

import argparse
import asyncio
import sys

from common.freed_memory import use_one_arena
from common.settings import read_or_exit
from gateway.transport.server import GatewayServer
from simple.app import create_simple_app
from simple.settings import SimpleSettings
from worker_runtime.memory.trim import release_start_up_memory
from worker_runtime.rpc import logs


async def run(settings: SimpleSettings) -> None:
    app = create_simple_app(settings)
    server = GatewayServer(app, app.state.services)
    release_start_up_memory()
    await server.serve()


def main() -> int:
    use_one_arena()
    parser = argparse.ArgumentParser(prog="y26hkx simple", description=__doc__)
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    settings = read_or_exit(SimpleSettings, "simple server", **given)
    logs.configure(settings.log_level, settings.log_format)
    asyncio.run(run(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
