"""Versions of installed packages."""

import importlib.metadata


def version_of(package: str, missing: str = "") -> str:
    """The installed version; `missing` if the package is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return missing
