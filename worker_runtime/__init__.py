"""What chat and embedding workers run on: model lifecycle, engine processes, the gRPC server."""
