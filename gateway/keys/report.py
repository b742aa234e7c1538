"""What keys have used, by day and model, as rows for people and programs."""

import csv
import io
from collections.abc import Callable, Mapping
from typing import Any

from gateway.keys.ledger import UsageKey, Used
from gateway.keys.periods import date_of

COLUMNS = (
    *("date", "key", "alias", "kind", "model"),
    *("requests", "prompt_tokens", "completion_tokens", "total_tokens"),
)
# A spreadsheet would take what begins so for a formula.
_FORMULA = ("=", "+", "-", "@")


def rows_of(found: Mapping[UsageKey, Used], alias: Callable[[str], str]) -> list[dict[str, Any]]:
    """One row for each day, key, kind and model, the oldest first.

    Args:
        alias: what people call a key, by its name.
    """
    return [
        {
            "date": date_of(key.day),
            "key": key.client.removeprefix("key:"),
            "alias": alias(key.client),
            "kind": key.kind,
            "model": key.model,
            **used._asdict(),
            "total_tokens": used.prompt_tokens + used.completion_tokens,
        }
        for key, used in sorted(found.items())
    ]


def as_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
