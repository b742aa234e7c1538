"""Exit status 0 if a service is healthy, for container health checks: `python -m cli.probe worker`.

python -m cli.probe gateway [--port 8001]     GET /health/live (or --path); HTTPS or a Unix socket
                                              where the settings say so
python -m cli.probe worker --port 50051       grpc.health.v1, SERVING
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace

from cli.liveness import grpc_health, http_status
from cli.settings import SettingsError, StackSettings

OK = 200


def main(argv: Sequence[str] | None = None) -> int:
    """Check once; returns 0 if healthy, else 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m cli.probe", description="Check whether a service is healthy."
    )
    parser.add_argument("service", choices=["gateway", "worker"])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--path", default="/health/live", help="gateway only")
    parser.add_argument("--timeout", type=float, default=3.0, help="seconds")
    chosen = parser.parse_args(argv)
    try:
        reason = asyncio.run(_ask(chosen))
    except (OSError, TimeoutError, SettingsError) as error:
        reason = f"{type(error).__name__}: {error}"
    if reason:
        sys.stderr.write(f"{chosen.service} is not healthy: {reason}\n")
    return 1 if reason else 0


async def _ask(chosen: argparse.Namespace) -> str:
    settings = StackSettings.read({})
    if chosen.service == "gateway":
        address = replace(settings.address(chosen.port), host=chosen.host)
        status = await http_status(address, chosen.path, chosen.timeout)
        return "" if status == OK else f"HTTP {status}"
    certificates = settings.worker_certificates
    health = await grpc_health(chosen.host, chosen.port, chosen.timeout, certificates)
    return "" if health.is_serving else "NOT_SERVING"


if __name__ == "__main__":
    sys.exit(main())
