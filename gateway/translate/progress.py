"""The text of comments for waiting clients."""

from protos.y26hkx.v1 import chat_pb2

# The text if there is no progress to report.
SILENCE = "keep-alive"
MOST = 80


def progress_text(queued: chat_pb2.Queued, model: str) -> str:
    """The progress of a load or queue, in one line.

    Args:
        model: its id, "" if unknown.
    """
    if queued.reason == "load":
        stage = f" ({plain(queued.stage)})" if queued.stage else ""
        text = f"loading {plain(model) or 'the model'}: {queued.load_fraction:.0%}{stage}"
        wait = "about {:.0f} s left"
    elif queued.position:
        text, wait = f"queued, position {queued.position}", "about {:.0f} s"
    else:
        return SILENCE
    if queued.HasField("estimated_wait_s"):
        text += ", " + wait.format(max(queued.estimated_wait_s, 1.0))
    return text


def queue_text(position: int, wait_s: float) -> str:
    """The place of a request that waits in the gateway for its turn.

    Args:
        wait_s: 0: not known.
    """
    queued = chat_pb2.Queued(position=position, reason="queue", estimated_wait_s=wait_s or None)
    return progress_text(queued, "")


def plain(text: str) -> str:
    """`text` as part of a line: shortened, with unprintable characters replaced."""
    return "".join(c if c.isprintable() else "?" for c in text[:MOST])
