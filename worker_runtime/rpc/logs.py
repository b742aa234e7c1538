"""Logging: one line per event, with the id of the request that it belongs to.

Prompts, keys and tokens are never logged. Ids that clients sent are checked first.
"""

import logging
import re
import sys
from contextvars import ContextVar

from common.json_log import JsonLines

# The id of the request that this task serves.
request_id: ContextVar[str] = ContextVar("request_id", default="-")
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
FORMAT = "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"


def clean_id(sent: str) -> str:
    """`sent` if it may stand in logs and replies, else "-"."""
    return sent if _SANE_ID.fullmatch(sent) else "-"


def configure(level: str, log_format: str = "text") -> None:
    """Write log records of `level` and above to stderr, one line each, as text or json."""
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(JsonLines() if log_format == "json" else _OneLine(FORMAT))
    output.addFilter(_add_request_id)
    logging.basicConfig(level=level.upper(), handlers=[output], force=True)


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        # Tracebacks stay readable, and a value with line breaks cannot imitate another log line.
        return super().format(record).replace("\r", "\\r").replace("\n", "\n    ")


def _add_request_id(record: logging.LogRecord) -> bool:
    record.request_id = request_id.get()
    return True
