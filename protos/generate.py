"""Generates the gRPC modules and their type stubs from the .proto files.

`python -m protos.generate` rewrites the committed modules. With `--check` it writes nothing and
exits with 1 if they differ from the .proto files. The folders of the .proto files mirror Python
packages from the repository's root, so the generated imports need no patching.
"""

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("protos/y26hkx/v1")


def generate(out: Path) -> None:
    """Write the modules and stubs of all .proto files below `out`, in package folders.

    Raises:
        RuntimeError: protoc refused a file; its message is on stderr.
    """
    include = Path(protoc.__file__).parent / "_proto"
    files = sorted(str(f.relative_to(ROOT)) for f in (ROOT / PACKAGE).glob("*.proto"))
    scripts = Path(sys.executable).parent
    suffix = ".exe" if sys.platform == "win32" else ""
    arguments = [
        "protoc",
        *(
            f"--plugin={name}={scripts / name}{suffix}"
            for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
        ),
        f"-I{ROOT}",
        f"-I{include}",
        f"--python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--grpc_python_out={out}",
        f"--mypy_grpc_out=quiet:{out}",
        *files,
    ]
    if protoc.main(arguments) != 0:
        raise RuntimeError("protoc failed")


def drift() -> list[str]:
    """Names of generated files that differ from those of the .proto files."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = {f.name: f.read_bytes() for f in (Path(folder) / PACKAGE).iterdir()}
    committed = {f.name: f.read_bytes() for f in (ROOT / PACKAGE).glob("*_pb2*.py*")}
    return sorted(name for name in fresh | committed if fresh.get(name) != committed.get(name))


def main() -> int:
    if "--check" not in sys.argv[1:]:
        generate(ROOT)
        return 0
    stale = drift()
    for name in stale:
        sys.stderr.write(f"{PACKAGE / name} is out of date: run python -m protos.generate\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
