"""Which models there are, and whether each fits into the memory that is free now."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from chat_worker import service as chat
from chat_worker.expansion import as_told
from chat_worker.ladder import ChatLadder
from chat_worker.settings import ChatSettings
from embed_worker import service as embed
from embed_worker.settings import EmbedSettings
from worker_runtime.catalog import ModelEntry, Scan
from worker_runtime.ladder import Ladder, Rung, as_it_is
from worker_runtime.machine import Machine

LEAST_HEADROOM_BYTES = 512 << 20
HEADROOM_SHARE = 0.1

Verdict = Literal["fits", "fits reduced", "does not fit", "broken", "unknown"]


@dataclass(frozen=True)
class Fit:
    """
    Args:
        need_bytes: as it is; 0: broken.
        least_bytes: with everything given up that can be.
        reductions: what is given up to fit now.
    """

    id: str
    capability: str
    backend: str
    is_default: bool
    size_bytes: int
    need_bytes: int
    least_bytes: int
    verdict: Verdict
    reductions: list[str]
    broken: str


def fits(chat_settings: ChatSettings, embed_settings: EmbedSettings, machine: Machine) -> list[Fit]:
    """Every model of the stack."""
    chat_scan, embed_scan = chat.ModelScan(chat_settings), embed.ModelScan(embed_settings)
    return [
        *_fits(chat_scan(), as_told(ChatLadder(chat_scan, chat_settings), chat_settings), machine),
        *_fits(embed_scan(), as_it_is, machine),
    ]


def _fits(scan: Scan, ladder: Ladder, machine: Machine) -> Iterator[Fit]:
    for entry in scan.entries:
        rungs = () if entry.broken else ladder(entry)
        taken, verdict = _verdict(entry, rungs, machine)
        needs = [rung.need.total for rung in rungs] or [0]
        yield Fit(
            id=entry.id,
            capability=entry.capability,
            backend=entry.backend,
            is_default=entry.id == scan.default_id,
            size_bytes=entry.size_bytes,
            need_bytes=needs[0],
            least_bytes=min(needs),
            verdict=verdict,
            reductions=list(taken.reductions) if taken else [],
            broken=entry.broken,
        )


def _verdict(
    entry: ModelEntry, rungs: Sequence[Rung], machine: Machine
) -> tuple[Rung | None, Verdict]:
    if entry.broken:
        return None, "broken"
    if machine.available_bytes is None:
        return None, "unknown"
    room = machine.available_bytes - headroom_bytes(machine)
    taken = next((rung for rung in rungs if rung.need.total <= room), None)
    if taken is None:
        return None, "does not fit"
    return taken, "fits reduced" if taken.reductions else "fits"


def headroom_bytes(machine: Machine) -> int:
    """What is left to everything else on the machine."""
    return max(LEAST_HEADROOM_BYTES, int((machine.memory_bytes or 0) * HEADROOM_SHARE))
