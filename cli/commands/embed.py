"""`y26hkx embed FILE -o vectors.npy`: the vectors of many texts."""

import argparse
import base64
import json
import os
import sys
from array import array
from pathlib import Path
from typing import BinaryIO

from cli.commands.failure import CommandError
from cli.commands.printing import write, write_json
from cli.commands.progress import Progress
from cli.commands.server import Server

MOST_TEXTS = 2048


def embed(chosen: argparse.Namespace) -> int:
    """Compute the vectors of the lines of a file. The output appears when all are there."""
    output = Path(chosen.output)
    if output.suffix not in (".npy", ".jsonl"):
        raise CommandError(f"{output} ends neither in .npy nor in .jsonl")
    if not 1 <= chosen.batch <= MOST_TEXTS:
        raise CommandError(f"--batch must be between 1 and {MOST_TEXTS}")
    texts = _texts(chosen.file)
    new = output.with_name(f".{output.name}.new")
    try:
        with new.open("wb") as file:
            dimension = _write(chosen, texts, file, as_npy=output.suffix == ".npy")
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


def _write(chosen: argparse.Namespace, texts: list[str], file: BinaryIO, *, as_npy: bool) -> int:
    """Write the vectors of all texts; returns their length."""
    server, dimension = Server(chosen.server), 0
    with Progress() as progress:
        for begin in range(0, len(texts), chosen.batch):
            part = texts[begin : begin + chosen.batch]
            body = {"input": part, "encoding_format": "base64"}
            reply = server.post("/v1/embeddings", body | _model(chosen))
            for text, item in zip(part, reply["data"], strict=True):
                packed = base64.b64decode(item["embedding"])
                if as_npy and not dimension:
                    _write_npy_header(file, len(texts), len(packed) // 4)
                dimension = len(packed) // 4
                file.write(packed if as_npy else _line(text, packed))
            if not chosen.json:
                progress.show("embedding", begin + len(part), len(texts), of_bytes=False)
    return dimension


def _model(chosen: argparse.Namespace) -> dict[str, str]:
    return {"model": chosen.model} if chosen.model else {}


def _line(text: str, packed: bytes) -> bytes:
    vector = array("f", packed)
    if sys.byteorder == "big":
        vector.byteswap()
    row = {"text": text, "embedding": vector.tolist()}
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def _write_npy_header(file: BinaryIO, n_rows: int, dimension: int) -> None:
    # Imported here: it takes 0.1 s, and the other format does not need it.
    from numpy.lib import format as npy

    shape = {"descr": "<f4", "fortran_order": False, "shape": (n_rows, dimension)}
    npy.write_array_header_1_0(file, shape)
