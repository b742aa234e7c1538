"""Which version of a package is installed."""

import importlib.metadata


def version_of(package: str, missing: str = "") -> str:
    """The installed version; `missing` where the package is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return missing
