"""About seventy chat templates of real models, out of llama-cpp-python's source distribution.

They are not ours to ship. Where llama.cpp was compiled they lie in uv's cache; elsewhere the
distribution that the lock names is downloaded, once, and checked against the lock's hash.
"""

import hashlib
import os
import re
import tarfile
import tempfile
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path
from urllib.parse import urljoin

import pytest

from bootstrap.indexes import pip_configuration
from bootstrap.lock import Lock

PACKAGE = "llama-cpp-python"
INSIDE = "vendor/llama.cpp/models/templates"
PYPI = "https://pypi.org/simple"
TIMEOUT_S = 60.0


@cache
def real_templates() -> dict[str, str]:
    """Templates by the names of their models; skips the test where they cannot be had."""
    version = Lock.read().version(PACKAGE)
    folder = _in_uv_cache(version) or _downloaded(version)
    files = sorted(folder.glob("*.jinja"))
    return {file.stem: file.read_text(encoding="utf-8") for file in files}


def _in_uv_cache(version: str) -> Path | None:
    variables = os.environ  # noqa: TID251 - where uv keeps what it compiled
    usual = Path(variables.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "uv"
    cache_folder = Path(variables.get("UV_CACHE_DIR", usual))
    pattern = f"sdists-v*/*/{PACKAGE}/{version}/*/src/{INSIDE}"
    return next(iter(cache_folder.glob(pattern)), None)


def _downloaded(version: str) -> Path:
    folder = Path(tempfile.gettempdir()) / f"y26hkx-templates-{version}"
    if not folder.is_dir():
        try:
            archive = _sdist(version)
        except (OSError, urllib.error.URLError) as error:
            pytest.skip(f"the source distribution of {PACKAGE} cannot be had: {error}")
        made = Path(tempfile.mkdtemp(dir=folder.parent))
        with tarfile.open(archive) as members:
            for member in members:
                if f"/{INSIDE}/" in member.name and member.name.endswith(".jinja"):
                    file = members.extractfile(member)
                    assert file is not None
                    (made / Path(member.name).name).write_bytes(file.read())
        archive.unlink()
        made.rename(folder)
    return folder


def _sdist(version: str) -> Path:
    index = pip_configuration(dict(os.environ)).get("index-url", PYPI)  # noqa: TID251 - the user's
    page_url = f"{index.rstrip('/')}/{PACKAGE}/"
    page = _fetch(page_url).decode()
    name = f"llama_cpp_python-{version}.tar.gz"
    link = re.search(rf'href="([^"]*{re.escape(name)}[^"]*)"', page)
    if link is None:
        raise OSError(f"the index has no {name}")
    content = _fetch(urljoin(page_url, link[1]))
    locked = next(package for package in Lock.read().packages if package.name == PACKAGE)
    assert hashlib.sha256(content).hexdigest() in locked.text
    with tempfile.NamedTemporaryFile(delete=False, suffix=".tar.gz") as file:
        file.write(content)
    return Path(file.name)


def _fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as reply:
        content: bytes = reply.read()
    return content
