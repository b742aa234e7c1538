"""Stores responses with their input and their predecessors, and makes some in the background."""
