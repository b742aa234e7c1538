"""A third party's backend, installed as pip would: its module and a dist-info in one folder."""

import shutil
from pathlib import Path

ECHO = Path(__file__).resolve().parent.parent / "docs" / "examples" / "echo_backend.py"


def install(site: Path, module: Path, **backends: str) -> None:
    """Copy `module` into `site` and declare its classes as backends, by the names that they get."""
    name = module.stem
    shutil.copy(module, site)
    dist_info = site / f"{name}-1.0.dist-info"
    dist_info.mkdir()
    (dist_info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{backend} = {name}:{cls}\n" for backend, cls in backends.items()]
    (dist_info / "entry_points.txt").write_text("[y26hkx.chat_backends]\n" + "".join(lines))
