"""Catalogue entries of stub engines, for the tests of this folder."""

from pathlib import Path

import msgspec

from tests.unit.worker_runtime.stub_engine import MODULE, StubSpec
from worker_runtime.catalog import ModelEntry
from worker_runtime.engine_process import protocol


def entry(
    model: str = "stub",
    spec: msgspec.Struct | None = None,
    *,
    size_bytes: int = 1 << 20,
    fingerprint: str = "fp_0000000000000000",
    broken: str = "",
) -> ModelEntry:
    return ModelEntry(
        id=model,
        capability="chat",
        backend="stub",
        path=Path("nowhere"),
        size_bytes=size_bytes,
        created_s=1,
        context_length=128,
        fingerprint=fingerprint,
        load_spec=protocol.raw(spec or StubSpec()),
        engine_module=MODULE,
        broken=broken,
    )
