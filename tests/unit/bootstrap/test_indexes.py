"""pip's configuration in uv's words."""

import sys
from pathlib import Path

import pytest

from bootstrap.indexes import (
    find_links_folders,
    no_index,
    read_pip_list,
    uv_toml_keys,
    uv_variables,
)


def test_an_environment_variable_overrides_pips_files() -> None:
    listed = """\
:env:.find-links='/from/env'
global.find-links='/from/file'
install.timeout='7'
global.timeout='5'
a line that is none
"""
    assert read_pip_list(listed) == {"find-links": "/from/env", "timeout": "7"}


def test_every_option_of_pip_reaches_uv(tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    first.mkdir()
    second.mkdir()
    pip = {
        "index-url": "https://mirror.example/simple",
        "extra-index-url": "file:///srv/a/simple\nfile:///srv/b/simple",
        "find-links": f"{first} https://wheels.example {second}",
        "trusted-host": "mirror.example other.example",
        "cert": "/etc/ssl/own.pem",
        "default-timeout": "180",
        "proxy": "http://proxy.example:3128",
    }
    assert uv_variables(pip, {"PATH": "/bin"}) == {
        "PATH": "/bin",
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_INDEX": "file:///srv/a/simple file:///srv/b/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": f"{first},https://wheels.example,{second}",
        "UV_INSECURE_HOST": "mirror.example other.example",
        "SSL_CERT_FILE": "/etc/ssl/own.pem",
        "UV_HTTP_TIMEOUT": "180",
        "ALL_PROXY": "http://proxy.example:3128",
    }


def test_what_the_user_told_uv_wins() -> None:
    pip = {"index-url": "https://pip.example", "extra-index-url": "https://more.example"}
    own = {"UV_DEFAULT_INDEX": "https://uv.example", "UV_EXTRA_INDEX_URL": "https://x.example"}
    assert uv_variables(pip, own) == own
    assert uv_variables(pip, {}, frozenset({"index"})) == {}


def test_without_extra_indexes_uv_keeps_its_own_strategy() -> None:
    found = uv_variables({"index-url": "https://mirror.example/simple"}, {})
    assert "UV_INDEX_STRATEGY" not in found


def test_a_missing_find_links_folder_is_left_out_as_pip_does(tmp_path: Path) -> None:
    found = uv_variables({"find-links": f"{tmp_path}/missing {tmp_path}"}, {})
    assert found["UV_FIND_LINKS"] == str(tmp_path)
    assert "UV_FIND_LINKS" not in uv_variables({"find-links": f"{tmp_path}/missing"}, {})


def test_local_find_links_are_found_as_paths_and_as_urls(tmp_path: Path) -> None:
    named = f"{tmp_path},https://wheels.example,{tmp_path.as_uri()},/no/such/folder"
    assert find_links_folders({"UV_FIND_LINKS": named}) == [tmp_path.resolve()] * 2


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("true", True), ("0", False)])
def test_no_index_is_understood(value: str, expected: bool) -> None:
    assert no_index({"no-index": value}) is expected


def test_keys_of_uv_toml_are_found_also_in_its_pip_table(tmp_path: Path) -> None:
    path = tmp_path / "uv.toml"
    path.write_text('find-links = ["/a"]\n[pip]\nindex-url = "https://x.example"\n')
    assert {"find-links", "index-url"} <= uv_toml_keys({"UV_CONFIG_FILE": str(path)})


@pytest.mark.skipif(sys.platform == "win32", reason="the folder is another there")
def test_the_users_uv_toml_is_read(tmp_path: Path) -> None:
    (tmp_path / "uv").mkdir()
    (tmp_path / "uv" / "uv.toml").write_text('index-url = "https://x.example"\n')
    assert "index-url" in uv_toml_keys({"XDG_CONFIG_HOME": str(tmp_path)})
