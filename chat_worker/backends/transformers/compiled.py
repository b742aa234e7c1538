"""torch.compile for a model: everything but attention, which loops over slots."""

from collections.abc import Callable
from typing import Any

from common.errors import BackendLoadFailed


def compile_model(model: Any, warm_up: Callable[[], None]) -> None:
    """Compile `model` in place, for any number of tokens.

    Args:
        warm_up: runs every kind of step, so that no request waits for the compiler.
    Raises:
        BackendLoadFailed: there is no compiler, or it does not take this model.
    """
    model.compile(dynamic=True)
    try:
        warm_up()
    except BackendLoadFailed as error:
        raise BackendLoadFailed(
            "the model could not be compiled: torch.compile needs a C++ compiler, and does not "
            "take every model",
            suggestions=("set COMPILE_MODEL=0",),
        ) from error
