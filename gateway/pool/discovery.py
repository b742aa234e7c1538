"""Resolves names to addresses, again every few seconds, because scaling out adds addresses.

gRPC's own resolver notices new addresses of a DNS name only after a minute or more.
"""

import asyncio
import logging
import socket

from gateway.worker_targets import host_of

log = logging.getLogger(__name__)

RESOLVE_INTERVAL_S = 3.0


async def resolve(target: str) -> dict[str, str]:
    """All "address:port" of "name:port", each with that; empty if it does not resolve now."""
    host, port = host_of(target), target.rpartition(":")[2]
    return {_join(address, port): target for address in await addresses_of(host)}


async def addresses_of(host: str) -> list[str]:
    """The addresses of a name; none if it does not resolve now."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        log.debug("the name %s does not resolve now", host)
        return []
    return [str(address[0]) for *_, address in found]


async def resolve_all(targets: list[str]) -> dict[str, str]:
    """The addresses of all `targets`, each with its target."""
    names: dict[str, str] = {}
    for found in await asyncio.gather(*(resolve(target) for target in targets)):
        names |= found
    return names


def _join(address: str, port: str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
