"""The workers behind the gateway: where they are, and when one gets no calls."""

from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from common.loopback import is_loopback
from common.settings import SUGGESTION, split_list
from gateway.listen_settings import ListenSettings
from gateway.worker_targets import host_of, parse_targets

MAX_PORT = 65535


class PoolSettings(ListenSettings):
    chat_workers: str = Field(
        default="127.0.0.1:50051",
        validation_alias="CHAT_WORKERS",
        description=(
            "Comma-separated host:port of chat workers; a host name may have several addresses. "
            "host:port@5% gets 5 % of the calls, as a new version that is tried."
        ),
    )
    embed_workers: str = Field(
        default="127.0.0.1:50052",
        validation_alias="EMBED_WORKERS",
        description="Comma-separated host:port of embedding workers; with shares as above.",
    )
    worker_slots: int = Field(
        default=4,
        ge=1,
        validation_alias="MAX_CONCURRENT_REQUESTS",
        description=(
            "Number of sequences that each chat worker decodes together: with API keys, others "
            "wait in the gateway for their fair share."
        ),
    )
    worker_wait_s: float = Field(
        default=15.0,
        ge=0,
        le=300,
        validation_alias="WORKER_WAIT_S",
        description=(
            "Seconds that a request waits while no worker serves, as when one is restarted. "
            "0: it is refused at once."
        ),
    )
    slow_worker_factor: float = Field(
        default=4.0,
        ge=0,
        validation_alias="SLOW_WORKER_FACTOR",
        description=(
            "A worker that takes this many times as long as the others, for a token or a small "
            "embedding call of the same model, gets no calls for a while; 0: however slow it is."
        ),
    )
    hedge_embeddings: bool = Field(
        default=False,
        validation_alias="HEDGE_EMBEDDINGS",
        description=(
            "1: a small embedding call that takes longer than 95 % of them did is sent to a second "
            "worker, and the first answer counts."
        ),
    )
    worker_token: SecretStr = Field(
        default=SecretStr(""),
        validation_alias="WORKER_TOKEN",
        description="Shared token sent with every call to a worker.",
    )

    @field_validator("chat_workers", "embed_workers")
    @classmethod
    def _are_addresses(cls, value: str) -> str:
        for target, _ in parse_targets(split_list(value)):
            port = target.rpartition(":")[2]
            if not host_of(target) or not port.isdecimal() or int(port) > MAX_PORT:
                raise ValueError(f"{target} is not host:port")
        return value

    @model_validator(mode="after")
    def _no_open_way_to_workers(self) -> Self:
        targets = {"CHAT_WORKERS": self.chat_workers, "EMBED_WORKERS": self.embed_workers}
        for name, value in targets.items():
            for target, _ in parse_targets(split_list(value)):
                if not is_loopback(host_of(target)) and not self.trusts_others:
                    raise ValueError(f"{name}: {target} may be another machine: {SUGGESTION}")
        return self
