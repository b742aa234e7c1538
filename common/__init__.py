"""What gateway and workers share beside the contract: errors, settings, limits, small pieces.

Every process imports this package before gRPC, because gRPC reads its environment only once.
"""

from common.grpc_experiments import use_earlier_poller

use_earlier_poller()
