"""Safetensors folders through transformers, with this project's own KV cache."""

from common.error_texts import ErrorText

USE_GGUF = ErrorText("use_gguf")
