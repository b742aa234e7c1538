"""Vectors for texts: a thin gRPC worker, and one encoder process per loaded model."""
