"""Keys with rights: who a key is, what it may do, how much it may use, and what it has used."""
