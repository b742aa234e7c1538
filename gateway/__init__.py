"""HTTP in, gRPC out: the OpenAI API over chat and embedding workers. Imports no model library."""
