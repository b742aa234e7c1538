"""Text to tokens and back: templates, trimming, incremental decoding, stop strings."""
