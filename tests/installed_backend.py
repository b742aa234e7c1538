"""A third party's plugins, installed as pip would: their module and a dist-info in one folder."""

import shutil
from pathlib import Path

ECHO = Path(__file__).resolve().parent.parent / "docs" / "examples" / "echo_backend.py"


BACKENDS = "y26hkx.chat_backends"


def install(site: Path, module: Path, group: str = BACKENDS, **classes: str) -> None:
    """Copy `module` into `site` and declare its classes as plugins, by the names that they get.

    Args:
        group: of entry points.
    """
    name = module.stem
    shutil.copy(module, site)
    dist_info = site / f"{name}-1.0.dist-info"
    dist_info.mkdir()
    (dist_info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{plugin} = {name}:{cls}\n" for plugin, cls in classes.items()]
    (dist_info / "entry_points.txt").write_text(f"[{group}]\n" + "".join(lines))
