"""How large requests may be, and how long clients, workers and streams may take."""

from typing import Self

from pydantic import Field, model_validator

from common.settings import SharedSettings
from common.sizes import MIB


class LimitSettings(SharedSettings):
    max_body_bytes: int = Field(
        default=2 * MIB,
        gt=0,
        validation_alias="MAX_BODY_BYTES",
        description="Largest body of a request.",
    )
    max_embedding_body_bytes: int = Field(
        default=8 * MIB,
        gt=0,
        validation_alias="MAX_EMBEDDING_BODY_BYTES",
        description="Largest body of /v1/embeddings, /v1/rerank and /v1/score.",
    )
    max_file_bytes: int = Field(
        default=64 * MIB,
        gt=0,
        validation_alias="MAX_FILE_BYTES",
        description="Largest file that is sent to /v1/files; it goes to the disk as it arrives.",
    )
    max_body_bytes_in_flight: int | None = Field(
        default=None,
        gt=0,
        validation_alias="MAX_BODY_BYTES_IN_FLIGHT",
        description=(
            "Bytes of all bodies together whose requests are not over; more are refused with 429. "
            "Each takes up to six times as much memory. Unset: what half of the available memory "
            "takes, 128 MiB at most."
        ),
    )
    max_connections: int = Field(
        default=1024,
        gt=0,
        validation_alias="MAX_CONNECTIONS",
        description="Largest number of open connections.",
    )
    max_connections_per_address: int = Field(
        default=64,
        gt=0,
        validation_alias="MAX_CONNECTIONS_PER_ADDRESS",
        description=(
            "Largest number of open connections of one address; loopback has no such limit."
        ),
    )
    header_timeout_s: float = Field(
        default=15.0,
        gt=0,
        validation_alias="HEADER_TIMEOUT_SECONDS",
        description="Seconds within which the headers of a request must arrive.",
    )
    body_timeout_s: float = Field(
        default=30.0,
        gt=0,
        validation_alias="BODY_TIMEOUT_SECONDS",
        description="Seconds within which the body of a request must arrive.",
    )
    write_stall_s: float = Field(
        default=30.0,
        gt=0,
        validation_alias="WRITE_STALL_SECONDS",
        description=(
            "Seconds that a client may take to read waiting data before its connection is closed."
        ),
    )
    request_timeout_s: float = Field(
        default=120.0,
        gt=0,
        validation_alias="REQUEST_TIMEOUT_SECONDS",
        description="Seconds that a request without streaming may take.",
    )
    first_token_timeout_s: float | None = Field(
        default=None,
        gt=0,
        validation_alias="FIRST_TOKEN_TIMEOUT_SECONDS",
        description=(
            "Seconds that a stream may take until its first token. Unset: REQUEST_TIMEOUT_SECONDS "
            "if that is set, else STREAM_TIMEOUT_SECONDS: prompts of several agents may take some "
            "minutes on a small machine."
        ),
    )
    stream_timeout_s: float = Field(
        default=600.0,
        gt=0,
        validation_alias="STREAM_TIMEOUT_SECONDS",
        description="Seconds that a whole stream may take.",
    )
    background_timeout_s: float = Field(
        default=3600.0,
        gt=0,
        validation_alias="BACKGROUND_TIMEOUT_SECONDS",
        description="Seconds that a response in the background may take, its waiting included.",
    )
    max_background_responses: int = Field(
        default=16,
        gt=0,
        validation_alias="MAX_BACKGROUND_RESPONSES",
        description=(
            "Largest number of responses in the background that are in progress; those of one key "
            "are limited by MAX_IN_FLIGHT_PER_KEY, too."
        ),
    )
    next_token_timeout_s: float = Field(
        default=30.0,
        gt=0,
        validation_alias="NEXT_TOKEN_TIMEOUT_SECONDS",
        description="Seconds that a worker may be silent between two tokens.",
    )
    sse_comment_interval_s: float = Field(
        default=10.0,
        gt=0,
        validation_alias="SSE_COMMENT_INTERVAL_SECONDS",
        description="Seconds of silence after which a comment is sent on a stream.",
    )
    sse_progress_after_s: float = Field(
        default=2.0,
        ge=0,
        validation_alias="SSE_PROGRESS_AFTER_SECONDS",
        description=(
            "Seconds after which a waiting stream gets the progress of its load or queue as "
            "comments. A failure after that is an event in the stream, before that an HTTP "
            "status."
        ),
    )
    drain_accept_s: float = Field(
        default=5.0,
        ge=0,
        validation_alias="GATEWAY_DRAIN_ACCEPT_S",
        description="Seconds after the first stop signal in which new requests are still accepted.",
    )
    drain_s: float = Field(
        default=30.0,
        ge=0,
        validation_alias="GATEWAY_DRAIN_S",
        description="Seconds that running requests may take to end after that.",
    )

    @model_validator(mode="after")
    def _largest_body_passes(self) -> Self:
        given = self.max_body_bytes_in_flight
        if given is not None and given < self.largest_body_bytes:
            raise ValueError(
                f"MAX_BODY_BYTES_IN_FLIGHT={given} is less than one body may have: "
                f"{self.largest_body_bytes} bytes by MAX_BODY_BYTES and MAX_EMBEDDING_BODY_BYTES"
            )
        return self

    @property
    def stream_first_token_s(self) -> float:
        """Seconds that a stream may take until its first token."""
        if self.first_token_timeout_s is not None:
            return self.first_token_timeout_s
        # It was the limit for this, too, before that had a setting of its own.
        if "request_timeout_s" in self.model_fields_set:
            return self.request_timeout_s
        return self.stream_timeout_s

    @property
    def largest_body_bytes(self) -> int:
        return max(self.max_body_bytes, self.max_embedding_body_bytes)
