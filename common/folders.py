"""Where programs of this user keep files, by the custom of the system; standard library alone."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

NAME = "y26hkx"
CHECKOUT = Path(__file__).parents[1] / "run.py"


def cache_folder_of(environment: Mapping[str, str]) -> Path:
    """The folder of what can be made again, for these environment variables."""
    if home := environment.get("Y26HKX_HOME"):
        return Path(home) / "cache"
    if sys.platform == "win32":
        return _local_of(environment) / NAME
    if sys.platform == "darwin":
        return _home() / "Library" / "Caches" / NAME
    return Path(environment.get("XDG_CACHE_HOME") or _home() / ".cache") / NAME


def models_folder_of(environment: Mapping[str, str]) -> Path:
    """The models folder where MODELS_DIR names none: that of the current folder or of a checkout,
    else one of this user, so that an installed server finds its models from anywhere."""
    here = Path("models")
    if home := environment.get("Y26HKX_HOME"):
        return Path(home) / here
    if here.is_dir() or CHECKOUT.is_file():
        return here
    if sys.platform == "win32":
        return _local_of(environment) / NAME / here
    if sys.platform == "darwin":
        return _home() / "Library" / "Application Support" / NAME / here
    data = environment.get("XDG_DATA_HOME") or _home() / ".local" / "share"
    return Path(data) / NAME / here


def folders_of_other_programs(environment: Mapping[str, str]) -> dict[str, list[Path]]:
    """Where other programs of this user keep models, by their names in MODEL_SOURCES."""
    cache = Path(environment.get("XDG_CACHE_HOME") or _home() / ".cache")
    hugging_face = Path(environment.get("HF_HOME") or cache / "huggingface")
    named = environment.get("OLLAMA_MODELS")
    # The second is that of the service which Ollama's installer makes on Linux.
    ollama = [_home() / ".ollama" / "models", Path("/usr/share/ollama/.ollama/models")]
    return {
        "lmstudio": [_home() / ".lmstudio" / "models", cache / "lm-studio" / "models"],
        "ollama": [Path(named)] if named else ollama,
        "huggingface": [Path(environment.get("HF_HUB_CACHE") or hugging_face / "hub")],
    }


def service_folder(system: str, environment: Mapping[str, str]) -> Path:
    """Where this system looks for the services of a user; on Windows, where their files may be.

    Args:
        system: as `sys.platform`.
    """
    if system == "win32":
        return _local_of(environment) / NAME
    if system == "darwin":
        return _home() / "Library" / "LaunchAgents"
    config = environment.get("XDG_CONFIG_HOME") or _home() / ".config"
    return Path(config) / "systemd" / "user"


def _local_of(environment: Mapping[str, str]) -> Path:
    """Windows' folder of what belongs to this user on this machine."""
    return Path(environment.get("LOCALAPPDATA") or _home() / "AppData" / "Local")


def _home() -> Path:
    return Path(os.path.expanduser("~"))
