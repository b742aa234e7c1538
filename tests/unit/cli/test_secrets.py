"""Services are handed the secrets that their settings name."""

import pytest

from chat_worker.settings import ChatSettings
from cli.settings import StackSettings
from cli.stack import SECRETS, stages
from common.secret_variables import without_secrets
from common.settings import SharedSettings
from embed_worker.settings import EmbedSettings
from gateway.settings import GatewaySettings

# Secrets that are plain text to their settings: the token, and an address with a password.
PLAIN = {"WORKER_TOKEN", "RATE_LIMIT_STORAGE"}


@pytest.mark.parametrize(
    ("module", "settings"),
    [("gateway", GatewaySettings), ("chat_worker", ChatSettings), ("embed_worker", EmbedSettings)],
)
def test_a_service_is_handed_the_secrets_that_its_settings_name(
    module: str, settings: type[SharedSettings]
) -> None:
    fields = {str(f.validation_alias): repr(f.annotation) for f in settings.model_fields.values()}
    secret = {name for name, kind in fields.items() if "SecretStr" in kind or name in PLAIN}
    # The gateway starts downloads, whose settings are their own.
    secret |= {"HF_TOKEN"} if module == "gateway" else set()
    assert SECRETS[module] == secret
    assert without_secrets(dict.fromkeys(secret, "x")) == {}, "it would go to all"


def test_a_secret_is_one_in_any_spelling_and_what_else_is_set_stays() -> None:
    options = {"api_keys": "canary", "Gh_Token": "canary", "OMP_NUM_THREADS": "2"}
    (gateway,), workers = stages(StackSettings.read(options), 9)
    for worker in workers:
        assert "canary" not in worker.env.values()
        assert worker.env["OMP_NUM_THREADS"] == "2"
    assert gateway.env["api_keys"] == "canary"
    assert "Gh_Token" not in gateway.env
