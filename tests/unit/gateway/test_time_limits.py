"""How long a stream may take until its first token."""

from gateway.settings import GatewaySettings


def settings(**chosen: float) -> GatewaySettings:
    return GatewaySettings(_env_file=None, **chosen)  # type: ignore[arg-type]


def test_it_may_take_as_long_as_the_whole_stream() -> None:
    assert settings().stream_first_token_s == settings().stream_timeout_s
    assert settings(stream_timeout_s=900).stream_first_token_s == 900


def test_whoever_set_the_limit_of_requests_before_keeps_it_for_the_first_token() -> None:
    assert settings(request_timeout_s=60).stream_first_token_s == 60


def test_it_has_a_setting_of_its_own() -> None:
    assert settings(request_timeout_s=60, first_token_timeout_s=5).stream_first_token_s == 5
