"""Translates pip's configuration of package indexes for uv, which does not read it.

What the user configured for uv (UV_* variables, uv.toml) takes precedence. pip searches all indexes
alike. So if pip has extra indexes, uv is configured to search all of them for the best match
(unsafe-best-match); by default uv uses only the first index that knows a name, and a mirror with
one version would hide all others. The lock's hashes keep this safe.
"""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

PIP_LINE = re.compile(r"^(?P<section>global|install|site|:env:)\.(?P<key>[\w-]+)=(?P<value>.*)$")
# Later sections override earlier ones, as in pip.
SECTIONS = ("site", "global", "install", ":env:")
# uv's variables for the same options, each with its names in uv.toml.
SAME_IN_UV = {
    "UV_DEFAULT_INDEX": ("UV_INDEX_URL", "index-url", "index"),
    "UV_INDEX": ("UV_EXTRA_INDEX_URL", "extra-index-url", "index"),
    "UV_FIND_LINKS": ("find-links",),
    "UV_INSECURE_HOST": ("allow-insecure-host",),
    "UV_HTTP_TIMEOUT": ("UV_REQUEST_TIMEOUT", "HTTP_TIMEOUT"),
    "ALL_PROXY": ("HTTPS_PROXY", "https_proxy", "all_proxy"),
}


def pip_configuration(variables: Mapping[str, str]) -> dict[str, str]:
    """pip's options by name, with pip's own precedence; empty if there is no pip."""
    commands = [[sys.executable, "-m", "pip"]]
    commands += [[found] for name in ("pip3", "pip") if (found := shutil.which(name))]
    for command in commands:
        listed = subprocess.run(
            [*command, "config", "list"],
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if listed.returncode == 0:
            return read_pip_list(listed.stdout)
    return {}


def read_pip_list(text: str) -> dict[str, str]:
    """Parse the output of `pip config list`."""
    lines = [found for line in text.splitlines() if (found := PIP_LINE.match(line))]
    lines.sort(key=lambda line: SECTIONS.index(line["section"]))
    return {line["key"].replace("_", "-"): str(ast.literal_eval(line["value"])) for line in lines}


def uv_variables(
    pip: Mapping[str, str], variables: Mapping[str, str], uv_toml: frozenset[str] = frozenset()
) -> dict[str, str]:
    """`variables` with pip's configuration as uv's variables, unless uv has a value of its own.

    Args:
        pip: options by name; several values of one option are separated by white space.
        variables: the environment.
        uv_toml: the keys that a uv.toml sets.
    """
    wanted = {
        "UV_DEFAULT_INDEX": pip.get("index-url", ""),
        "UV_INDEX": _words(pip, "extra-index-url"),
        "UV_FIND_LINKS": ",".join(_find_links(pip)),
        "UV_INSECURE_HOST": _words(pip, "trusted-host"),
        "UV_HTTP_TIMEOUT": pip.get("timeout", pip.get("default-timeout", "")),
        "UV_HTTP_RETRIES": pip.get("retries", ""),
        "SSL_CERT_FILE": pip.get("cert", ""),
        "SSL_CLIENT_CERT": pip.get("client-cert", ""),
        "ALL_PROXY": pip.get("proxy", ""),
    }
    result = dict(variables)
    for name, value in wanted.items():
        own = {name, *SAME_IN_UV.get(name, ())}
        if value and not own & (variables.keys() | uv_toml):
            result[name] = value
    if "UV_INDEX" in result and "UV_INDEX" not in variables:
        result.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return result


def uv_toml_keys(variables: Mapping[str, str]) -> frozenset[str]:
    """The keys that the user's or the system's uv.toml sets, including those of its [pip] table."""
    keys: set[str] = set()
    for path in _uv_toml_paths(variables):
        if path.is_file():
            settings = tomllib.loads(path.read_text(encoding="utf-8"))
            keys |= settings.keys() | settings.get("pip", {}).keys()
    return frozenset(keys)


def find_links_folders(variables: Mapping[str, str]) -> list[Path]:
    """The local folders among uv's find-links, in order."""
    folders = []
    for entry in re.split(r"[,\s]+", variables.get("UV_FIND_LINKS", "")):
        local = url2pathname(urlsplit(entry).path) if entry.startswith("file:") else entry
        if local and "://" not in local and Path(local).expanduser().is_dir():
            folders.append(Path(local).expanduser().resolve())
    return folders


def no_index(pip: Mapping[str, str]) -> bool:
    """Whether pip may use find-links only. uv has an option for that, but no variable."""
    return pip.get("no-index", "").lower() in {"1", "true", "yes", "on"}


def _find_links(pip: Mapping[str, str]) -> list[str]:
    # pip ignores missing folders, but uv fails; pip resolves paths from the current folder.
    entries = pip.get("find-links", "").split()
    remote = {entry for entry in entries if "://" in entry}
    return [
        entry if entry in remote else str(Path(entry).expanduser().resolve())
        for entry in entries
        if entry in remote or Path(entry).expanduser().exists()
    ]


def _words(pip: Mapping[str, str], option: str) -> str:
    return " ".join(pip.get(option, "").split())


def _uv_toml_paths(variables: Mapping[str, str]) -> list[Path]:
    if chosen := variables.get("UV_CONFIG_FILE"):
        return [Path(chosen)]
    if sys.platform == "win32":
        roots = [variables.get("APPDATA"), variables.get("PROGRAMDATA")]
        return [Path(root) / "uv" / "uv.toml" for root in roots if root]
    user = variables.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return [Path(user) / "uv" / "uv.toml", Path("/etc/uv/uv.toml")]
