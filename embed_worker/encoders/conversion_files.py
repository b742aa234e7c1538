"""The files of an embedding model and of its converted form, and what is recorded about that."""

from collections.abc import Iterator
from pathlib import Path

from msgspec import field

from worker_runtime.conversion import cache

# Raise this number when the conversion changes, so that every model is converted again.
VERSION = 3
RECORD = "encoder.json"
GRAPH = "model.xml"
WEIGHTS = "model.bin"
TOKENIZER = "tokenizer.json"
SOURCES = ("*.safetensors", "*.json", "[0-9]*_*/*.safetensors", "[0-9]*_*/*.json")


class Record(cache.Record, kw_only=True):
    """What is stored about a converted model besides its graph, weights and tokenizer; a refused
    one stays on torch."""

    dimension: int = 0
    max_tokens: int = 0
    n_embedded: int = 0
    pad_id: int = 0
    pools_prompt: bool = True
    # Whether texts follow each other without padding, with positions from `first_position` on.
    unpadded: bool = False
    first_position: int = 0
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str = ""
    # The smallest cosine to torch's vectors in float32, by the precision of the computation.
    cosines: dict[str, float] = field(default_factory=dict)
    # The padded tokens of the fastest batch, by precision and configured threads.
    batch_tokens: dict[str, int] = field(default_factory=dict)


def sources(model: Path) -> Iterator[Path]:
    """Yield the files that the vectors of `model` depend on, sorted."""
    found = {path for pattern in SOURCES for path in model.glob(pattern)}
    return (path for path in sorted(found) if path.is_file())
