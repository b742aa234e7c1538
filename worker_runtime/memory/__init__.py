"""Memory of the machine and of the engine processes: measured, estimated and reserved."""
