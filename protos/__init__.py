"""The contract between gateway and workers: the .proto files and the modules generated from
them."""
