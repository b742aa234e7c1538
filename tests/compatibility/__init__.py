"""Writes docs/compatibility.md: `python -m tests.compatibility [templates|embeddings|clients]`."""
