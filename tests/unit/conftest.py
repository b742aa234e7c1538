"""Conversions without a process of their own."""

import importlib
from pathlib import Path

import pytest

from worker_runtime.conversion import cache
from worker_runtime.conversion.converter import keep_converted
from worker_runtime.conversion.process import OnProgress


@pytest.fixture
def converts_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let converters run in this process, which has imported their libraries: that takes a new one
    some seconds of processor time, most of what the conversion of a small model takes."""

    def run_here(module: str, model: Path, folder: Path, on_progress: OnProgress) -> int:
        converter = importlib.import_module(module)
        keep_converted(
            converter.CONVERSIONS,
            model,
            folder,
            lambda fresh: converter.convert(model, fresh, on_progress),
            converter.CONVERSION_ERRORS,
        )
        return 0

    monkeypatch.setattr(cache, "run_converter", run_here)
