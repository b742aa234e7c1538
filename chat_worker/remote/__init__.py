"""Models that run on another OpenAI-compatible server; their engine process forwards each call."""
