"""What a worker is called in metrics and health: by its container or host, not by its position.

A position would mean another worker after the next restart.
"""

import re
from collections import Counter
from collections.abc import Sequence

from gateway.pool.endpoint import Endpoint

MAX_HOST = 64
_STRANGE = re.compile(r"[^A-Za-z0-9_.-]")


def named(kind: str, endpoints: Sequence[Endpoint]) -> list[tuple[str, Endpoint]]:
    """Each worker with its name, which no other of its kind has.

    It is `kind` and what the worker says its host is called; its address, where it says nothing or
    several are on one host.
    """
    hosts = [_STRANGE.sub("_", endpoint.status.host[:MAX_HOST]) for endpoint in endpoints]
    times = Counter(hosts)
    return [
        (f"{kind}-{host if host and times[host] == 1 else endpoint.address}", endpoint)
        for host, endpoint in zip(hosts, endpoints, strict=True)
    ]
