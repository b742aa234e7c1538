"""What is stored of files and batches, and how the API shows them."""

from typing import Any, Literal

import msgspec

Status = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired",
    "cancelling", "cancelled",
]  # fmt: skip
OPEN: tuple[Status, ...] = ("validating", "in_progress", "finalizing", "cancelling")


class FileRecord(msgspec.Struct, kw_only=True):
    """
    Args:
        owner: the client whose file it is.
        created_at: seconds since the epoch, as all times here.
    """

    id: str
    owner: str
    filename: str
    purpose: str
    n_bytes: int
    created_at: int

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.n_bytes,
            "created_at": self.created_at,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
        }


class Counts(msgspec.Struct):
    total: int = 0
    completed: int = 0
    failed: int = 0


class Mistake(msgspec.Struct):
    """Why a batch cannot be run; `line` counts from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Batch(msgspec.Struct, kw_only=True):
    """A batch. Its output and error file get their ids at once, and records at its end."""

    id: str
    owner: str
    endpoint: str
    input_file_id: str
    completion_window: str
    created_at: int
    expires_at: int
    output_file_id: str
    error_file_id: str
    status: Status = "validating"
    metadata: dict[str, str] | None = None
    mistakes: list[Mistake] = []
    counts: Counts = msgspec.field(default_factory=Counts)
    # When it came into a status, by name ("completed_at").
    times: dict[str, int] = msgspec.field(default_factory=dict)

    def shown(self, has_file: Any) -> dict[str, Any]:
        """
        Args:
            has_file: tells whether there is a file with an id.
        """
        names = (
            "in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at",
            "cancelling_at", "cancelled_at",
        )  # fmt: skip
        errors = {"object": "list", "data": msgspec.to_builtins(self.mistakes)}
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": errors if self.mistakes else None,
            "input_file_id": self.input_file_id,
            "completion_window": self.completion_window,
            "status": self.status,
            "output_file_id": self.output_file_id if has_file(self.output_file_id) else None,
            "error_file_id": self.error_file_id if has_file(self.error_file_id) else None,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            **{name: self.times.get(name) for name in names},
            "request_counts": msgspec.to_builtins(self.counts),
            "metadata": self.metadata,
        }
