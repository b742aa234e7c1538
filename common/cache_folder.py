"""Where this user's programs keep files that they can make again; the standard library alone."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def cache_folder_of(environment: Mapping[str, str]) -> Path:
    """The folder for these environment variables, by the custom of this system."""
    home = Path(os.path.expanduser("~"))
    if sys.platform == "win32":
        base = Path(environment.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "y26hkx"
