"""The API's description is whole: every reference in it leads somewhere."""

import json
import re

from fastapi.testclient import TestClient

from gateway.app import create_app
from gateway.settings import GatewaySettings


def test_every_body_is_described_and_every_reference_resolves() -> None:
    client = TestClient(create_app(GatewaySettings(_env_file=None)))
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank"):
        assert "requestBody" in document["paths"][path]["post"], path
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert "ChatRequest" in references
    assert references <= set(schemas)
    assert "$defs" not in json.dumps(document)
