"""Batches of requests, as OpenAI has them: a file in, a file out, while nobody else asks."""
