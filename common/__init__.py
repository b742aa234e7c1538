"""The contract between gateway and workers, and what both sides of it share.

Every process here imports this package before gRPC, which reads its environment once.
"""

from common.grpc_experiments import use_earlier_poller

use_earlier_poller()
