"""Figures, each a ratio to a peer or to the raw library measured in the same run."""
