"""Writes the parts of docs/compatibility.md that are named, or all of them."""

import sys

from tests.compatibility.clients import clients
from tests.compatibility.embeddings import embeddings
from tests.compatibility.page import write_part
from tests.compatibility.templates import templates

PARTS = {"templates": templates, "embeddings": embeddings, "clients": clients}


def main() -> None:
    for name in sys.argv[1:] or PARTS:
        write_part(name, PARTS[name]())


if __name__ == "__main__":
    main()
