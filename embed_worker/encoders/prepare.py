"""Prepares a conversion for this package: `python -m embed_worker.encoders.prepare MODEL NAME`.

It converts the model and stores the graph, and which tensors of the model its weights are; see
`prepared`. It needs torch. Run it again when `convert` changes or the model does.
"""

import hashlib
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import msgspec

from embed_worker.encoders.conversion_cache import CONVERSIONS
from embed_worker.encoders.conversion_files import GRAPH, WEIGHTS, sources
from embed_worker.encoders.convert import convert
from embed_worker.encoders.prepared import FOLDER, MODEL_WEIGHTS, PARTS, Origin, Part, digests
from worker_runtime.model_files.safetensors import check_safetensors


def prepare(model: Path, target: Path) -> None:
    """Write the conversion of `model`, without its weights, to `target`.

    Raises:
        NotConvertible: the model must run on torch.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        record = convert(model, folder, lambda fraction, stage: None)
        graph, weights = (folder / GRAPH).read_bytes(), (folder / WEIGHTS).read_bytes()
    origin = Origin(
        sizes={path.relative_to(model).as_posix(): path.stat().st_size for path in sources(model)},
        digests=digests(model),
        parts=list(_parts(graph, weights, _tensors(model / MODEL_WEIGHTS))),
    )
    target.mkdir(parents=True, exist_ok=True)
    (target / GRAPH).write_bytes(graph)
    (target / PARTS).write_bytes(msgspec.json.format(msgspec.json.encode(origin)) + b"\n")
    CONVERSIONS.write(target, record)


def _tensors(file: Path) -> dict[bytes, str]:
    """The tensors' names by the digests of their bytes."""
    header = check_safetensors(file)
    content = memoryview(file.read_bytes())[header.data_start :]
    return {
        hashlib.sha256(content[slice(*tensor.data_offsets)]).digest(): name
        for name, tensor in header.tensors.items()
    }


def _parts(graph: bytes, weights: bytes, tensors: dict[bytes, str]) -> Iterator[Part]:
    at = 0
    for start, end in _constants(graph):
        name = tensors.get(hashlib.sha256(weights[start:end]).digest(), "")
        if not name or start < at:
            continue
        if start > at:
            yield Part(literal=weights[at:start].hex())
        yield Part(tensor=name)
        at = end
    if at < len(weights):
        yield Part(literal=weights[at:].hex())


def _constants(graph: bytes) -> list[tuple[int, int]]:
    """The places in the weights where the graph's constants begin and end."""
    found = {
        (int(data.attrib["offset"]), int(data.attrib["size"]))
        for data in ElementTree.fromstring(graph).iter("data")
        if "offset" in data.attrib
    }
    return sorted((offset, offset + size) for offset, size in found)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), FOLDER / sys.argv[2])
