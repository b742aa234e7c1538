"""Names of files that could lead out of the models folder, or that some system cannot store."""

import os
import sys
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidRequest
from downloads.names import safe_path, within


@pytest.mark.parametrize(
    "name", ["m.gguf", "1_Pooling/config.json", "模型-Q4_K_M.gguf", "a b.json"]
)
def test_plain_names_are_taken(name: str) -> None:
    assert str(safe_path(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../m.gguf", "a/../../m.gguf", "/etc/m.gguf", "a//m.gguf", "a/./m.gguf"),
        *("C:/m.gguf", "c:m.gguf", "..\\m.gguf", "\\\\host\\m.gguf", "m.gguf:stream", ".hidden"),
        *("CON", "nul.gguf", "Com1.json", "a/LPT9", "m.gguf.", "m.gguf ", "a /m.gguf", "m?.gguf"),
        *("m\0.gguf", "m\n.gguf", "m\u202e.gguf", "\ud800.gguf", "a" * 300, "a/b/c/d/e.gguf"),
    ],
)
def test_a_name_that_may_mean_another_place_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="is not taken"):
        safe_path(name)


@given(st.text())
def test_no_name_at_all_leads_out_of_a_folder(name: str) -> None:
    try:
        path = safe_path(name)
    except InvalidRequest:
        return
    joined = os.path.normpath(os.path.join("/models", *path.parts))
    assert joined.startswith(os.path.normpath("/models") + os.sep)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right of their own there")
def test_a_link_is_never_followed_or_replaced(tmp_path: Path) -> None:
    models, outside = tmp_path / "models", tmp_path / "outside"
    models.mkdir()
    outside.mkdir()
    (models / "away").symlink_to(outside)
    (models / "m.gguf").symlink_to(outside / "m.gguf")
    for path in ("away/m.gguf", "m.gguf"):
        with pytest.raises(InvalidRequest, match="link"):
            within(models, PurePosixPath(path))
    assert within(models, PurePosixPath("own/m.gguf")) == models / "own" / "m.gguf"
