"""Pure functions between the API's schemas and the contract's messages."""
