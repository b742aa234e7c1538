"""How many generations of a model its workers compute at once."""

from common.model_ids import same_model_id
from gateway.pool.workers import Workers

# Of other servers, which have queues of their own.
REMOTE = "remote"
# Beside its slots a worker is given this many more, so that it need not wait for the next.
IN_HAND = 1


def capacity_of(workers: Workers, slots: int, model: str) -> int | None:
    """
    Args:
        slots: how many each worker decodes together.
    Returns:
        None: there is no limit that is known here.
    """
    found = [
        known.backend
        for endpoint in workers.outliers.sound(workers.serving)
        for known in endpoint.status.models
        if same_model_id(known.id, model)
    ]
    return None if not found or REMOTE in found else len(found) * (slots + IN_HAND)
