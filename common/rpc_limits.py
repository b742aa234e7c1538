"""What both ends of a gRPC connection must agree on beside the contract."""

# Of one message, in either direction: the vectors of a large embedding call are the largest.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
# Metadata of a call: the id of the HTTP request that it serves, and the token of the worker.
REQUEST_ID_KEY = "x-request-id"
TOKEN_KEY = "authorization"
