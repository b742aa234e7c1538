"""The libraries that compute models; only an engine process imports from here, lazily."""
