"""The simple server's settings: the gateway's, on a port of its own."""

from pydantic import Field

from gateway.settings import GatewaySettings


class SimpleSettings(GatewaySettings):
    """The settings of the simple server."""

    port: int = Field(
        default=8002,
        ge=0,
        le=65535,
        validation_alias="SIMPLE_PORT",
        description="HTTP port of the simple server.",
    )
