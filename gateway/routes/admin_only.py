"""For what only admins may do on a path that others may call, too."""

from starlette.requests import Request

from common.error_texts import ErrorText
from common.errors import PermissionDenied
from gateway.keys.endpoints import ADMIN
from gateway.middleware.request_context import context_of


def require_admin(request: Request) -> None:
    """
    Raises:
        PermissionDenied: the client's key is no admin's.
    """
    key = context_of(request.scope).key
    if key is not None and not key.admin:
        raise PermissionDenied(
            ErrorText("endpoint_forbidden", scope=ADMIN), suggestions=(ErrorText("ask_admin"),)
        )
