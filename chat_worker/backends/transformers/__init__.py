"""Safetensors folders through transformers, computed with a KV cache of ours."""

USE_GGUF = "use a GGUF of the model with MODEL_BACKEND=llama.cpp"
