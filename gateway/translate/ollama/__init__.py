"""Between Ollama's JSON and the contract's messages."""
