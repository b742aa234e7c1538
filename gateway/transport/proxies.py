"""The proxies whose X-Forwarded-For is believed: by address, by network, or by name.

The containers of a proxy change their addresses, and their name finds the new ones.
"""

import asyncio
from collections.abc import Iterable
from ipaddress import ip_address

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from common.loopback import UNIX, is_address
from gateway.key_settings import Network, network_of
from gateway.pool.discovery import RESOLVE_INTERVAL_S, addresses_of


class TrustedProxies:
    """
    Args:
        listed: addresses, networks and names; `UNIX` for any client of the Unix socket.
    """

    def __init__(self, listed: Iterable[str]) -> None:
        texts = set(listed)
        self.unix = UNIX in texts
        networks = {text: network_of(text) for text in texts - {UNIX}}
        self._fixed = frozenset(found for found in networks.values() if found is not None)
        self._names = [text for text, found in networks.items() if found is None]
        # Those that are known now.
        self.networks: frozenset[Network] = self._fixed

    @property
    def listed(self) -> bool:
        return bool(self.unix or self._fixed or self._names)

    def __contains__(self, address: str) -> bool:
        return is_address(address) and any(ip_address(address) in one for one in self.networks)

    async def watch(self) -> None:
        """Resolve the names, again every few seconds, until cancelled."""
        while self._names:
            found = await asyncio.gather(*map(addresses_of, self._names))
            # An address with a scope, as of a link, is no network.
            self.networks = self._fixed.union(
                network
                for addresses in found
                for address in addresses
                if (network := network_of(address)) is not None
            )
            await asyncio.sleep(RESOLVE_INTERVAL_S)


class ForwardedMiddleware:
    """Takes a client's address from X-Forwarded-For of trusted proxies."""

    def __init__(self, app: ASGIApp, proxies: TrustedProxies) -> None:
        self._app = app
        self._proxies = proxies
        self._trusted: frozenset[Network] | None = None
        self._inner: ASGIApp = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._proxies.networks != self._trusted:
            self._trusted = self._proxies.networks
            hosts = [*map(str, self._trusted), *([UNIX] if self._proxies.unix else [])]
            self._inner = ProxyHeadersMiddleware(self._app, trusted_hosts=hosts)
        await self._inner(scope, receive, send)
