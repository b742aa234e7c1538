"""Log lines as JSON objects, one per line, for programs that collect logs (LOG_FORMAT=json)."""

import datetime
import json
import logging


class JsonLines(logging.Formatter):
    """Writes the time (UTC), the level, the logger, the message, and what a record has beside it.

    A record may have `fields` (in `extra`), and the workers' have `request_id`.
    """

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (request_id := getattr(record, "request_id", "-")) != "-":
            line["request_id"] = request_id
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # ASCII, so that no terminal or encoding can break a line.
        return json.dumps(line, default=str)
