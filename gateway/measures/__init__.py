"""What is measured of requests: times, tokens and counts by model and by key, for `/metrics`."""
