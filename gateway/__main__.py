"""`python -m gateway`: the HTTP service, configured by environment variables."""

import asyncio
import logging
from functools import partial

from common.freed_memory import use_one_arena
from common.gc_tuning import freeze_startup_objects
from common.json_log import JsonLines
from common.parent_watch import exit_with_parent
from common.setting_origins import changed_line
from common.settings import read_or_exit
from gateway.app import create_app
from gateway.services import Services
from gateway.settings import GatewaySettings
from gateway.transport.server import GatewayServer

log = logging.getLogger("gateway")


async def run(settings: GatewaySettings) -> None:
    log.info("settings: %s", changed_line(settings))
    app = create_app(settings)
    services: Services = app.state.services
    server = GatewayServer(app, services)
    if settings.exit_with_parent:
        watch_parent = partial(exit_with_parent, on_line=services.supervision.hear)
        asyncio.get_running_loop().call_soon(watch_parent)
    freeze_startup_objects()
    await server.serve()


def main() -> None:
    use_one_arena()
    settings = read_or_exit(GatewaySettings, "gateway")
    output = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    output.setFormatter(JsonLines() if settings.log_format == "json" else text)
    logging.basicConfig(level=settings.log_level, handlers=[output])
    # Our log lines do not contain these, and they make up a third of the cost of a line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    asyncio.run(run(settings))


if __name__ == "__main__":
    main()
