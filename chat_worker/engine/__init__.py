"""Continuous batching: pure policy (sequences, slots, scheduler) and the thread that runs it."""
