"""models.toml: what it may say, and that a wrong one changes nothing."""

from pathlib import Path

import pytest

from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.models_toml import (
    FILE,
    NO_OPTIONS,
    ModelOptions,
    ModelsToml,
    read_models_toml,
)

RIGHT = """
[models."Own-Q4_K_M"]
context = 8192
slots = 2
kv_type = "q8_0"
system_prompt = "Be brief."
aliases = ["gpt-4o", "mine:small"]
temperature = 0.2
max_tokens = 100
pinned = true
priority = -1
"""


def test_options_are_found_by_any_spelling_of_an_id(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(RIGHT)
    options = read_models_toml(tmp_path)["own-q4_k_m"]
    assert (options.context, options.slots, options.kv_type) == (8192, 2, "q8_0")
    assert options.system_prompt == "Be brief."
    assert options.aliases == ("gpt-4o", "mine:small")
    assert (options.temperature, options.top_p, options.max_tokens) == (0.2, None, 100)
    assert (options.pinned, options.priority) == (True, -1)
    assert read_models_toml(tmp_path / "elsewhere") == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[models", "models.toml"),
        ('[models."m"]\ncontxt = 1', "contxt"),
        ('[models."m"]\ncontext = 1', ">= 256"),
        ('[models."m"]\ncontext = "much"', "int"),
        ('[models."m"]\nslots = 1000', "<= 128"),
        ('[models."m"]\ntemperature = 3', "temperature must be between 0 and 2"),
        ('[models."m"]\nmin_p = nan', "min_p must be"),
        ('[models."m"]\nmax_tokens = 0', "max_tokens"),
        ('[models."m"]\naliases = "gpt"', "array"),
        ('[models."m"]\naliases = [""]', "aliases"),
        ('[models."m"]\npriority = 101', "<= 100"),
        ('[models."m"]\naliases = ["a"]\n[models."n"]\naliases = ["A"]', "both m and n"),
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


def test_a_wrong_file_leaves_what_was_right_in_force_and_tells_why(tmp_path: Path) -> None:
    file, options = tmp_path / FILE, ModelsToml(tmp_path)
    file.write_text(RIGHT)
    options.read()
    assert options.problem == ""
    file.write_text("[models")
    options.read()
    assert FILE in options.problem
    assert options.of("own-q4_k_m").slots == 2
    file.unlink()
    options.read()
    assert options.problem == ""
    assert options.of("own-q4_k_m").slots is None


def test_files_that_it_names_are_read_with_it(tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text("{{ messages }}")
    (tmp_path / "adapter.gguf").write_bytes(b"GGUF")
    (tmp_path / FILE).write_text(
        '[models.m]\nchat_template = "own.jinja"\nlora = "adapter.gguf"\nlora_scale = 0.5'
    )
    options = read_models_toml(tmp_path)["m"]
    assert options.chat_template == "{{ messages }}"
    assert options.lora == str(tmp_path / "adapter.gguf")


@pytest.mark.parametrize("option", ["chat_template", "lora"])
@pytest.mark.parametrize("named", ["missing", ".", "x" * 300, "\\u0000"])
def test_a_file_that_it_names_and_that_cannot_be_read_is_an_error(
    tmp_path: Path, option: str, named: str
) -> None:
    (tmp_path / FILE).write_text(f'[models.m]\n{option} = "{named}"')
    with pytest.raises((InvalidModelFile, OSError)):
        read_models_toml(tmp_path)


def test_a_loaded_model_takes_on_names_pins_and_sampling_as_it_is() -> None:
    taken_on = ModelOptions(aliases=("a",), pinned=True, priority=3, temperature=1, max_tokens=5)
    assert taken_on.of_load == NO_OPTIONS.of_load == ""
    assert ModelOptions(context=512, aliases=("a",)).of_load == ModelOptions(context=512).of_load
    assert ModelOptions(chat_template="a").of_load != ModelOptions(chat_template="b").of_load
