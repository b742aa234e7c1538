"""The simple server: chat and health in one process, for machines that are too small for three.

It serves the gateway's routes with a chat worker's lifecycle, by function calls instead of gRPC.
"""
