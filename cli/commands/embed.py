"""`y26hkx embed FILE -o vectors.npy`: the vectors of many texts."""

import argparse
import base64
import os
import sys
from pathlib import Path

from cli.commands.failure import CommandError
from cli.commands.printing import write, write_json
from cli.commands.progress import Progress
from cli.commands.server import Server
from cli.commands.vector_files import FORMATS, VectorFile

MOST_TEXTS = 2048


def embed(chosen: argparse.Namespace) -> int:
    """Compute the vectors of the lines of a file. The output appears when all are there."""
    output = Path(chosen.output)
    if output.suffix not in FORMATS:
        raise CommandError(f"{output} ends neither in .npy nor in .jsonl or .parquet")
    if not 1 <= chosen.batch <= MOST_TEXTS:
        raise CommandError(f"--batch must be between 1 and {MOST_TEXTS}")
    texts = _texts(chosen.file)
    new = output.with_name(f".{output.name}.new")
    try:
        with new.open("wb") as file:
            dimension = _write(chosen, texts, FORMATS[output.suffix](file, len(texts)))
        os.replace(new, output)
    except OSError as error:
        raise CommandError(f"{output} cannot be written: {error.strerror}") from error
    finally:
        new.unlink(missing_ok=True)
    facts = {"output": str(output), "texts": len(texts), "dimension": dimension}
    if chosen.json:
        write_json(facts)
    else:
        write(f"{output}: {len(texts):,} vectors of {dimension} numbers")
    return 0


def _texts(name: str) -> list[str]:
    try:
        content = sys.stdin.read() if name == "-" else Path(name).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{name} cannot be read: {error}") from error
    texts = [line for line in content.splitlines() if line.strip()]
    if not texts:
        raise CommandError(f"{name} has no text")
    return texts


def _write(chosen: argparse.Namespace, texts: list[str], vectors: VectorFile) -> int:
    """Write the vectors of all texts; returns their length."""
    server, dimension = Server(chosen.server), 0
    with Progress() as progress:
        for begin in range(0, len(texts), chosen.batch):
            part = texts[begin : begin + chosen.batch]
            body = {"input": part, "encoding_format": "base64"}
            reply = server.post("/v1/embeddings", body | _model(chosen))
            packed = [base64.b64decode(item["embedding"]) for item in reply["data"]]
            vectors.add(part, packed)
            dimension = len(packed[0]) // 4
            if not chosen.json:
                progress.show("embedding", begin + len(part), len(texts), of_bytes=False)
    vectors.close()
    return dimension


def _model(chosen: argparse.Namespace) -> dict[str, str]:
    return {"model": chosen.model} if chosen.model else {}
