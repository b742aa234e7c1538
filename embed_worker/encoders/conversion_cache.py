"""The converted forms of embedding models: what is stored about them, and where they are made."""

from msgspec import field

from worker_runtime.conversion import cache
from worker_runtime.conversion.cache import Conversions, NotConvertible, unfinished_prefix

__all__ = ["NotConvertible", "unfinished_prefix"]

VERSION = 3
RECORD = "encoder.json"
GRAPH = "model.xml"
WEIGHTS = "model.bin"
TOKENIZER = "tokenizer.json"


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


CONVERSIONS = Conversions(
    kind=Record,
    record=RECORD,
    module="embed_worker.encoders.convert",
    version=VERSION,
    libraries=("openvino", "torch", "transformers", "sentence-transformers"),
    sources=("*.safetensors", "*.json", "[0-9]*_*/*.safetensors", "[0-9]*_*/*.json"),
    files=(GRAPH, WEIGHTS, TOKENIZER),
    weights=WEIGHTS,
    # The graph and its weights exist twice while they are written.
    spare_disk=2.5,
)
converted = CONVERSIONS.converted
known = CONVERSIONS.known
refused = CONVERSIONS.refused
checks_of = CONVERSIONS.checks_of
source_state = CONVERSIONS.source_state
read_record = CONVERSIONS.read
write_record = CONVERSIONS.write
