"""models.toml: what it may say, and that a wrong one changes nothing."""

import logging
from pathlib import Path

import pytest

from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.models_toml import FILE, ModelsToml, read_models_toml

RIGHT = """
[models."Own-Q4_K_M"]
context = 8192
slots = 2
kv_type = "q8_0"
system_prompt = "Be brief."
"""


def test_options_are_found_by_any_spelling_of_an_id(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(RIGHT)
    options = read_models_toml(tmp_path)["own-q4_k_m"]
    assert (options.context, options.slots, options.kv_type) == (8192, 2, "q8_0")
    assert options.system_prompt == "Be brief."
    assert read_models_toml(tmp_path / "elsewhere") == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[models", "models.toml"),
        ('[models."m"]\ncontxt = 1', "contxt"),
        ('[models."m"]\ncontext = 1', ">= 256"),
        ('[models."m"]\ncontext = "much"', "int"),
        ('[models."m"]\nslots = 1000', "<= 128"),
        ('[models."m"]\nkv_type = "q2"', "q2"),
        ("[model.m]\nslots = 1", "model"),
        ("models = 7", "object"),
        ("\ud800", "models.toml"),
        ("a = " + "[" * 5000, "models.toml"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / FILE).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InvalidModelFile, match=words):
        read_models_toml(tmp_path)


def test_a_wrong_file_leaves_what_was_right_in_force_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, options = tmp_path / FILE, ModelsToml(tmp_path)
    file.write_text(RIGHT)
    options.read()
    file.write_text("[models")
    with caplog.at_level(logging.ERROR):
        options.read()
        options.read()
    assert len(caplog.records) == 1
    assert options.of("own-q4_k_m").slots == 2
    file.unlink()
    options.read()
    assert options.of("own-q4_k_m").slots is None
