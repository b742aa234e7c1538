"""The answer to a load that does not fit, with its arithmetic and suggestions."""

from collections.abc import Sequence

import msgspec

from common.errors import BackendLoadFailed
from common.sizes import mib
from worker_runtime.catalog import Capability
from worker_runtime.memory.budget import MemoryBudget

MAX_HOLDERS = 10
# Programs may end; a limit does not change by waiting.
RETRY_S = 30.0
LIMITS: dict[Capability, str] = {
    "chat": "raise MODEL_MEMORY_LIMIT_GB",
    "embed": "raise EMBEDDING_MEMORY_LIMIT_GB",
}


class Holder(msgspec.Struct, frozen=True):
    """A model that holds memory now."""

    model: str
    bytes: int
    pinned: bool = False


def insufficient_memory(
    budget: MemoryBudget, needs: Sequence[int], holders: Sequence[Holder], capability: Capability
) -> BackendLoadFailed:
    """
    Args:
        budget: in which not even the smallest of `needs` fits.
        needs: bytes of each way to load the model, the wanted one first.
        capability: of the model.
    """
    limit, least = budget.limit_bytes, min(needs)
    over_limit = limit is not None and least > limit
    need = mib(needs[0]) + (f" ({mib(least)} at the least)" if least < needs[0] else "")
    numbers = {"needed": needs[0], "least": least, "headroom": budget.headroom_bytes}
    numbers |= {"booked": sum(claim.booked_bytes for claim in budget.claims)}
    numbers |= {"others_booked": sum(claim.booked_bytes for claim in budget.others)}
    if limit is not None:
        numbers["limit"] = limit
    if budget.available_bytes is not None:
        numbers["available"] = budget.available_bytes
    pins = [holder.model for holder in holders if holder.pinned]
    if over_limit:
        cause, (reason, suggestions, retry_after_s) = (
            "over_limit",
            _over_limit(limit or 0, capability),
        )
    elif pins:
        cause, (reason, suggestions, retry_after_s) = "held_by_pins", _held_by_pins(pins)
    else:
        # Where there are smaller ways, a shorter context was among them.
        may_shorten = capability == "chat" and len(needs) == 1
        cause, (reason, suggestions, retry_after_s) = (
            "machine_memory",
            _machine_memory(budget, may_shorten=may_shorten),
        )
    return BackendLoadFailed(
        f"the model does not fit: it needs about {need}, and {reason}; {holders_text(holders)}",
        retry_after_s=retry_after_s,
        suggestions=(*suggestions, "use a smaller or a more strongly quantized model"),
        metadata={
            "cause": "memory",
            "reason": cause,
        }
        | holders_metadata(holders)
        | {f"{name}_bytes": str(n_bytes) for name, n_bytes in numbers.items()},
    )


def holders_text(holders: Sequence[Holder]) -> str:
    held = ", ".join(f"{h.model} ({mib(h.bytes)})" for h in holders[:MAX_HOLDERS])
    return f"models loaded now: {held or 'none'}"


def holders_metadata(holders: Sequence[Holder]) -> dict[str, str]:
    return {"holds": msgspec.json.encode(holders[:MAX_HOLDERS]).decode()}


def _over_limit(
    limit_bytes: int, capability: Capability
) -> tuple[str, tuple[str, ...], float | None]:
    said = f"all models of this worker together may take {mib(limit_bytes)}"
    return said, (LIMITS[capability],), None


def _held_by_pins(pins: Sequence[str]) -> tuple[str, tuple[str, ...], float | None]:
    said = f"pinned models hold the room for it ({', '.join(pins[:MAX_HOLDERS])})"
    suggestions = tuple(f"unload {pin}: POST /v1/models/unload" for pin in pins[:MAX_HOLDERS])
    return said, suggestions, RETRY_S


def _machine_memory(
    budget: MemoryBudget, *, may_shorten: bool
) -> tuple[str, tuple[str, ...], float | None]:
    said = (
        f"{mib(budget.available_bytes or 0)} are available, of which "
        f"{mib(budget.headroom_bytes)} stay free for everything else"
    )
    suggestions = (
        "close other programs",
        *(("lower MAX_INPUT_TOKENS or LLAMA_CTX",) if may_shorten else ()),
        "load it all the same with MEMORY_CHECK=off",
    )
    return said, suggestions, RETRY_S
