"""Safetensors folders through transformers, computed with a KV cache of ours."""

from common.error_texts import ErrorText

USE_GGUF = ErrorText("use_gguf")
