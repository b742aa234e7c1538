"""Backends of third parties: what they implement, and the process that runs them."""
