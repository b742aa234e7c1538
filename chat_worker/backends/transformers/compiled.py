"""torch.compile for all of a model except attention, which loops over slots."""

from collections.abc import Callable
from typing import Any

from common.error_texts import ErrorText
from common.errors import BackendLoadFailed


def compile_model(model: Any, warm_up: Callable[[], None]) -> None:
    """Compile `model` in place, for any number of tokens.

    Args:
        warm_up: runs every kind of step, so that no request waits for the compiler.
    Raises:
        BackendLoadFailed: there is no compiler, or it does not support this model.
    """
    model.compile(dynamic=True)
    try:
        warm_up()
    except BackendLoadFailed as error:
        raise BackendLoadFailed(
            ErrorText("not_compiled"),
            suggestions=(ErrorText("set_setting", setting="COMPILE_MODEL=0"),),
        ) from error
