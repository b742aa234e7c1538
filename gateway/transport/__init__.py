"""How bytes come and go: the HTTP server, streams, clients that leave, draining."""
