"""The chat worker: a thin gRPC parent, and the engine processes that run one model each."""
