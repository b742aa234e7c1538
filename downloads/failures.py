"""A failure as one line of JSON, with its text in all languages; `gateway` reads it."""

import base64

from common.errors import ServingError
from common.rpc_status import to_status


def failure_line(error: ServingError) -> dict[str, str]:
    """Return the line's object: a `google.rpc.Status`, as between gateway and workers."""
    status = to_status(error).SerializeToString()
    return {"status": "failed", "error": base64.b64encode(status).decode("ascii")}
