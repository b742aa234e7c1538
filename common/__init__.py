"""The contract between gateway and workers, and what both sides of it share.

gRPC reads its environment once, when it is imported; every process here imports this package
first. Its newer event engine hands each message through a pool of threads: on two cores the
gateway spends a third more processor time per streamed token with it than with the poller
before. Later versions of gRPC drop that choice, and then ignore the names.
"""

import os
import sys

if sys.platform == "linux":  # where it was measured
    variables = os.environ  # noqa: TID251 - gRPC takes this from nowhere else
    variables.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
