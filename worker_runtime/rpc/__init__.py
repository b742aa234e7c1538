"""A worker's gRPC server: calls, the Worker service, metrics, logs, shutdown."""
