"""The simple server: chat and health in one process, for machines that cannot spare three.

The gateway's routes over a chat worker's lifecycle, joined by function calls instead of gRPC.
"""
