"""Text to tokens and back: templates, truncation, incremental decoding, stop strings."""
