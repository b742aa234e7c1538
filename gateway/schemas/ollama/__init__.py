"""What clients of Ollama's API may send."""

from gateway.schemas.ollama.chat import OllamaChatRequest
from gateway.schemas.ollama.generate import GenerateRequest
from gateway.schemas.ollama.models import (
    CopyRequest,
    CreateRequest,
    DeleteRequest,
    EmbedRequest,
    OldEmbedRequest,
    OllamaPullRequest,
    ShowRequest,
)

OLLAMA_BODIES = (
    OllamaChatRequest,
    GenerateRequest,
    EmbedRequest,
    OldEmbedRequest,
    ShowRequest,
    CopyRequest,
    CreateRequest,
    DeleteRequest,
    OllamaPullRequest,
)
