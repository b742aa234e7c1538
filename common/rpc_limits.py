"""Constants that both ends of a gRPC connection must share."""

# The largest message in either direction; the vectors of a large embedding request need the most.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
# Of a generation on a stream that it shares with others: the most events that are sent before their
# reader says that it has read some.
WINDOW_EVENTS = 64
# Metadata keys of a call: the id of the HTTP request that it serves, and the worker's token.
REQUEST_ID_KEY = "x-request-id"
TOKEN_KEY = "authorization"
