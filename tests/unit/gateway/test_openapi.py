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
    paths = ("chat/completions", "responses", "completions", "embeddings", "rerank")
    for path in (f"/v1/{path}" for path in paths):
        assert "requestBody" in document["paths"][path]["post"], path
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert "ChatRequest" in references
    assert references <= set(schemas)
    assert "$defs" not in json.dumps(document)


def test_what_two_apis_call_alike_is_described_twice() -> None:
    client = TestClient(create_app(GatewaySettings(_env_file=None)))
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    apis = ("chat", "responses_items")
    ours, theirs = (schemas[f"gateway__schemas__{api}__Message"] for api in apis)
    assert "tool_calls" in ours["properties"]
    assert "tool_calls" not in theirs["properties"]
