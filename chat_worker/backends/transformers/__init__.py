"""Safetensors folders through transformers, computed with a KV cache of ours."""
