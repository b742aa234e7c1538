"""What clients may send, as pydantic types: every number, length and count has bounds."""
