"""A worker's gRPC server: RPCs, the Worker service, metrics, logs and shutdown."""
