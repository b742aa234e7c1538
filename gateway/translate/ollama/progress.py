"""What happens in a download, in the words that Ollama's clients know."""

import hashlib
from collections.abc import Iterator
from typing import Any


def progress_of(event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The objects for one event of a download, as `downloads/events.py` lists them."""
    match event["status"]:
        case "resolving":
            yield {"status": "pulling manifest"}
        case "downloading":
            digest = _digest(event["model"])
            yield {
                "status": f"pulling {digest.partition(':')[2][:12]}",
                # Clients show one bar for each digest: this one names the download as a whole.
                "digest": digest,
                "total": event["total_bytes"],
                "completed": event["completed_bytes"],
            }
        case "verifying":
            yield {"status": "verifying sha256 digest"}
        case "done":
            yield {"status": "writing manifest"}
            yield {"status": "success"}


def _digest(model: str) -> str:
    return "sha256:" + hashlib.sha256(model.encode()).hexdigest()
