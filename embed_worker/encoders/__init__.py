"""The libraries that compute vectors, each behind `engine.runner.Runner`."""
