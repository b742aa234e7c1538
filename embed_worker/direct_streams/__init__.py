"""Direct streams: small calls that reach the encoder process without the way through the worker."""
