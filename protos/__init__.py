"""The contract between gateway and workers: the .proto files and what is generated of them."""
