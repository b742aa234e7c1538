"""Models on other OpenAI-compatible servers; their engine process forwards each call."""
