"""Both ends of the pipe between a worker and the process that holds one model."""
