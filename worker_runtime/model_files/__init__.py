"""Reads what the files of a model state about it, without its weights."""
