"""The HTTP server: connections, streams, clients that leave, draining."""
