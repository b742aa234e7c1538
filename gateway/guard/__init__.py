"""The guard: rules that block, redact or flag texts of requests and answers."""
