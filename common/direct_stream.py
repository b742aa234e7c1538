"""What both ends of a direct stream know; `embed.proto` describes it (`DirectStream`)."""

import hashlib
import hmac
from typing import Literal

SECRET_BYTES = PROOF_BYTES = 32
Side = Literal["caller", "process"]
# Of calls: those on a direct stream are small.
MOST_CALL_BYTES = 1 << 20


def proof(secret: bytes, side: Side) -> bytes:
    """What `side` sends first, so that the other one knows that it did not reach a stranger."""
    return hmac.digest(secret, side.encode(), hashlib.sha256)


def is_proof(sent: bytes, secret: bytes, side: Side) -> bool:
    return hmac.compare_digest(sent, proof(secret, side))
