"""Stores responses with their input and their predecessors, so that clients can continue them."""
