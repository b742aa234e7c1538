"""`python -m gateway`: the HTTP service, configured by environment variables."""

import asyncio
import logging
import sys

from pydantic import ValidationError

from gateway.app import create_app
from gateway.server import GatewayServer
from gateway.settings import GatewaySettings
from protos.orphan import exit_when_orphaned


async def run(settings: GatewaySettings) -> None:
    app = create_app(settings)
    server = GatewayServer(app, settings, app.state.services.drain)
    if settings.exit_with_parent:
        asyncio.get_running_loop().call_soon(exit_when_orphaned)
    await server.serve()


def main() -> int:
    try:
        settings = GatewaySettings()
    except ValidationError as error:
        for problem in error.errors():
            place = ".".join(str(part) for part in problem["loc"])
            sys.stderr.write(f"gateway: {place or 'settings'}: {problem['msg']}\n")
        return 2
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    asyncio.run(run(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
