"""What an embedding model's files state about it for people and other programs."""

from worker_runtime.catalog import ModelFacts
from worker_runtime.model_files.config_facts import MAX_NAME, MOST_PARAMETERS, config_facts
from worker_runtime.model_files.gguf import GgufHeader
from worker_runtime.model_files.odd_paths import printable
from worker_runtime.model_files.weights import Weights


def facts_of_weights(weights: Weights, hidden_size: int, context_length: int) -> ModelFacts:
    """Facts of a folder, whose configuration is beside the weights."""
    config = config_facts(weights.files[0].parent)
    return ModelFacts(
        format="safetensors",
        family=config.family,
        n_parameters=min(weights.n_numbers, MOST_PARAMETERS),
        quantization=config.precision,
        embedding_length=hidden_size,
        trained_context=context_length,
    )


def facts_of_gguf(header: GgufHeader, n_parameters: int) -> ModelFacts:
    length = header.metadata.get(f"{header.architecture}.embedding_length")
    return ModelFacts(
        format="gguf",
        family=printable(header.architecture[:MAX_NAME]),
        n_parameters=min(n_parameters, MOST_PARAMETERS),
        quantization=header.quantization,
        embedding_length=length if isinstance(length, int) and 0 < length < 1 << 31 else 0,
        trained_context=header.context_length,
    )
