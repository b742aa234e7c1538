"""What `run.py bench engines` measured, as a file that several runs fill."""

from collections.abc import Sequence
from pathlib import Path

import msgspec


class Figures(msgspec.Struct, frozen=True):
    """
    Args:
        load_s: until the first answer of a model whose conversion is done.
        memory_mib: resident, of all processes of the server.
        prompts: tokens/s by the number of words.
        answers: tokens/s by the number of clients.
    """

    load_s: float
    memory_mib: float
    prompts: dict[int, float]
    answers: dict[int, float]


class Report(msgspec.Struct):
    """
    Args:
        processor: its name, as the system states it, with the number of its cores.
        model: the file that was measured.
    """

    processor: str
    model: str
    engines: dict[str, Figures]


def read_report(path: Path) -> Report:
    return msgspec.json.decode(path.read_bytes(), type=Report)


def write_report(path: Path, report: Report, order: Sequence[str]) -> None:
    """Write `report`, with the figures of other engines that the file has of the same model.

    Args:
        order: of the engines in the file.
    """
    if path.exists():
        before = read_report(path)
        if (before.processor, before.model) == (report.processor, report.model):
            both = before.engines | report.engines
            report.engines = {name: both[name] for name in order if name in both}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
