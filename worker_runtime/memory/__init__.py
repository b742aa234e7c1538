"""Memory of this machine and of the engine processes, as the lifecycle and status see it."""
