"""The error for a load that does not fit into memory, with its figures and suggestions."""

from collections.abc import Sequence

import msgspec

from common.error_texts import ErrorText
from common.errors import BackendLoadFailed
from common.sizes import mib
from worker_runtime.catalog import Capability
from worker_runtime.memory.budget import MemoryBudget

MAX_HOLDERS = 10
# Waiting helps if other programs end; it does not change a limit.
RETRY_S = 30.0
LIMITS: dict[Capability, str] = {
    "chat": "MODEL_MEMORY_LIMIT_GB",
    "embed": "EMBEDDING_MEMORY_LIMIT_GB",
}


class Holder(msgspec.Struct, frozen=True):
    """A model that holds memory at the moment."""

    model: str
    bytes: int
    pinned: bool = False


def insufficient_memory(
    budget: MemoryBudget, needs: Sequence[int], holders: Sequence[Holder], capability: Capability
) -> BackendLoadFailed:
    """Build the error for a load that does not fit.

    Args:
        budget: the memory in which not even the smallest of `needs` fits.
        needs: bytes of each load option, the preferred one first.
        capability: the model's.
    """
    limit, least = budget.limit_bytes, min(needs)
    pins = [holder.model for holder in holders if holder.pinned]
    retry_after_s: float | None = RETRY_S
    if limit is not None and least > limit:
        reason = ErrorText("over_limit", limit=mib(limit))
        suggestions, retry_after_s = [ErrorText("raise_setting", setting=LIMITS[capability])], None
    elif pins:
        reason = ErrorText("held_by_pins", models=", ".join(pins[:MAX_HOLDERS]))
        suggestions = [ErrorText("unload_model", model=pin) for pin in pins[:MAX_HOLDERS]]
    else:
        available, headroom = mib(budget.available_bytes or 0), mib(budget.headroom_bytes)
        reason = ErrorText("machine_memory", available=available, headroom=headroom)
        suggestions = [ErrorText("close_programs"), ErrorText("memory_check_off")]
        if capability == "chat" and len(needs) == 1:
            # With several load options, a shorter context was among them.
            suggestions.insert(1, ErrorText("lower_input_or_context"))
    return BackendLoadFailed(
        ErrorText(
            "does_not_fit", need=_need(needs[0], least), reason=reason, loaded=holders_text(holders)
        ),
        retry_after_s=retry_after_s,
        suggestions=(*suggestions, ErrorText("use_smaller_or_quantized")),
        metadata={"cause": "memory", "reason": reason.id}
        | holders_metadata(holders)
        | _numbers(budget, needs[0], least),
    )


def holders_text(holders: Sequence[Holder]) -> ErrorText:
    """The sentence that lists the loaded models and their memory."""
    if not holders:
        return ErrorText("no_models_loaded")
    held = ", ".join(f"{h.model} ({mib(h.bytes)})" for h in holders[:MAX_HOLDERS])
    return ErrorText("models_loaded", models=held)


def holders_metadata(holders: Sequence[Holder]) -> dict[str, str]:
    """The same as JSON, for clients that read metadata."""
    return {"holds": msgspec.json.encode(holders[:MAX_HOLDERS]).decode()}


def _numbers(budget: MemoryBudget, wanted: int, least: int) -> dict[str, str]:
    found = {"needed": wanted, "least": least, "headroom": budget.headroom_bytes}
    found["booked"] = sum(claim.booked_bytes for claim in budget.claims)
    found["others_booked"] = sum(claim.booked_bytes for claim in budget.others)
    if budget.limit_bytes is not None:
        found["limit"] = budget.limit_bytes
    if budget.available_bytes is not None:
        found["available"] = budget.available_bytes
    return {f"{name}_bytes": str(n_bytes) for name, n_bytes in found.items()}


def _need(wanted: int, least: int) -> str:
    if least < wanted:
        return ErrorText("need_range", wanted=mib(wanted), least=mib(least))
    return mib(wanted)
