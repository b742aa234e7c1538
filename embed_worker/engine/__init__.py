"""Decides which texts run together, and runs them on one thread.

Pure policy and threads: imports neither grpc nor torch nor asyncio.
"""
