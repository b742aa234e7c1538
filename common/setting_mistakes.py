"""The error of variables whose values cannot be used, as pydantic raises it for a setting."""

from collections.abc import Mapping

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings


def mistaken(
    settings: type[BaseSettings], kind: str, given: Mapping[str, str], mistakes: Mapping[str, str]
) -> ValidationError:
    """Return one error that names every variable in `mistakes` with its reason.

    Args:
        kind: pydantic's type of the errors.
        given: the values of the variables.
        mistakes: what is wrong, by variable.
    """
    return ValidationError.from_exception_data(
        settings.__name__,
        [
            InitErrorDetails(
                type=PydanticCustomError(kind, "{error}", {"error": why}),
                loc=(name,),
                input=given[name],
            )
            for name, why in mistakes.items()
        ],
    )
