"""What decides which texts run together, and the one thread that runs them.

Pure policy and threads: imports neither grpc nor torch nor asyncio.
"""
