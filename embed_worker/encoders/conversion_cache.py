"""The converted forms of embedding models, and where they are kept."""

from embed_worker.encoders.conversion_files import (
    GRAPH,
    RECORD,
    SOURCES,
    TOKENIZER,
    VERSION,
    WEIGHTS,
    Record,
)
from embed_worker.encoders.prepared import writer_for
from worker_runtime.conversion.cache import Conversions

CONVERSIONS = Conversions(
    kind=Record,
    record=RECORD,
    module="embed_worker.encoders.convert",
    version=VERSION,
    libraries=("openvino", "torch", "transformers", "sentence-transformers"),
    sources=SOURCES,
    files=(GRAPH, WEIGHTS, TOKENIZER),
    weights=WEIGHTS,
    # The graph and its weights exist twice while they are written.
    spare_disk=2.5,
    prepared=writer_for,
)
