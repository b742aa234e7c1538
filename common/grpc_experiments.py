"""Which poller gRPC works with, by a variable that it reads once, when it is imported.

Its newer event engine hands each message through a pool of threads: on two cores the gateway spends
a third more processor time per streamed token with it than with the poller before. What the
variable may name is gRPC's own business and changes without notice: a version that dropped the
choice would complain of the names on stderr, and go on with its event engine.

Tried with gRPC 1.85.1; `tests/contract/test_grpc_experiments.py` guards it.
"""

import os
import sys

EARLIER_POLLER = "-event_engine_client,-event_engine_listener"


def use_earlier_poller() -> None:
    """Call it before gRPC is imported; what the user set stays."""
    if sys.platform == "linux":  # where it was measured
        variables = os.environ  # noqa: TID251 - gRPC takes this from nowhere else
        variables.setdefault("GRPC_EXPERIMENTS", EARLIER_POLLER)
