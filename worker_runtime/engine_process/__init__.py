"""The pipe between a worker and an engine process, a process that holds one model; both ends."""
