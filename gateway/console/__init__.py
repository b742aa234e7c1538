"""The console: a web page at `/`, built from `console/` and served from this package's `built/`."""
