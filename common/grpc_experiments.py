"""Selects gRPC's poller by a variable that gRPC reads once, when it is imported.

gRPC's newer event engine passes each message through a pool of threads: on two cores the gateway
spends a third more processor time per streamed token with it than with the older poller. The names
that the variable accepts are internal to gRPC and may change without notice. A version without
this choice would complain about the names on stderr and use its event engine.

Tried with gRPC 1.85.1; `tests/contract/test_grpc_experiments.py` guards it.
"""

import os
import sys

EARLIER_POLLER = "-event_engine_client,-event_engine_listener"


def use_earlier_poller() -> None:
    """To be called before gRPC is imported. A value that the user set stays."""
    if sys.platform == "linux":  # only measured there
        variables = os.environ  # noqa: TID251 - gRPC accepts this choice only by its variable
        variables.setdefault("GRPC_EXPERIMENTS", EARLIER_POLLER)
