"""Third-party backends: the protocol that they implement, and the process that runs them."""
