"""Which addresses only this machine can reach. Standard library only, because all services use
it."""

import ipaddress

# In place of an address: all clients of a Unix socket.
UNIX = "unix:"


def is_address(host: str) -> bool:
    """Whether `host` is an IP address, not a name; IPv6 without brackets."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, is loopback; of names only localhost is."""
    if host.lower() in ("localhost", UNIX):
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
