"""Tools and items of the Responses API beside functions, as Codex and others send them."""

import json
from typing import Any

import pytest

from gateway.translate.responses_tools import as_input
from protos.y26hkx.v1 import chat_pb2
from tests.contract.responses import PATH, call_piece, script, sdk
from tests.contract.running_gateway import RunningGateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import finished, started

SPAWN: dict[str, Any] = {"type": "function", "name": "spawn", "parameters": {"type": "object"}}
AGENTS: dict[str, Any] = {"type": "namespace", "name": "agents", "tools": [SPAWN]}
MCP: dict[str, Any] = {"type": "namespace", "name": "mcp__git__", "tools": [SPAWN]}
PATCH: dict[str, Any] = {
    "type": "custom",
    "name": "apply_patch",
    "description": "patches files",
    "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "a" hunk+\nhunk: "b"'},
}
TEXT = '*** Begin Patch\n+ "x"\n'
CALLS_ALL = script(
    started(),
    call_piece(0, "{}", "call_a", "agents__spawn"),
    call_piece(1, json.dumps({"input": TEXT}), "call_b", "apply_patch"),
    finished(9, reason="REASON_TOOL_CALLS"),
)


async def conversation(
    gateway: RunningGateway, worker: ScriptedWorker, **fields: Any
) -> chat_pb2.Conversation:
    reply = await gateway.http.post(PATH, json={"input": "hi"} | fields)
    assert reply.status_code == 200, reply.text
    found: chat_pb2.Conversation = worker.calls[-1].request.conversation
    return found


async def test_namespaces_and_custom_tools_are_functions_to_the_model(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    found = await conversation(gateway, worker, tools=[AGENTS, MCP, PATCH])
    assert [tool.name for tool in found.tools] == [
        "agents__spawn",
        "mcp__git__spawn",
        "apply_patch",
    ]
    patch = found.tools[2]
    assert patch.description.startswith("patches files")
    assert PATCH["format"]["definition"] in patch.description
    schema = json.loads(patch.parameters_json)
    assert (list(schema["properties"]), schema["required"]) == (["input"], ["input"])


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ({"type": "grammar", "syntax": "regex", "definition": "[a-z]+"}, "^(?:[a-z]+)$"),
        ({"type": "grammar", "syntax": "lark", "definition": "start: /[a-z]+/"}, "^(?:[a-z]+)$"),
        ({"type": "grammar", "syntax": "lark", "definition": r"start: /a\/b/"}, "^(?:a/b)$"),
        ({"type": "grammar", "syntax": "lark", "definition": 'start: "a" | "b"'}, None),
        ({"type": "grammar", "syntax": "regex", "definition": "(?=a)b"}, None),
        ({"type": "grammar", "syntax": "regex", "definition": "(a"}, None),
        ({"type": "text"}, None),
        (None, None),
    ],
)
async def test_a_text_is_held_by_its_grammar_where_that_is_one_regular_expression(
    gateway: RunningGateway, worker: ScriptedWorker, form: Any, pattern: str | None
) -> None:
    found = await conversation(gateway, worker, tools=[PATCH | {"format": form}])
    schema = json.loads(found.tools[0].parameters_json)
    assert schema["properties"]["input"].get("pattern") == pattern


async def test_calls_are_given_back_as_the_client_knows_their_tools(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.generate = CALLS_ALL
    reply = await gateway.http.post(PATH, json={"input": "hi", "tools": [AGENTS, PATCH]})
    spawn, patch = reply.json()["output"]
    assert (spawn["type"], spawn["namespace"], spawn["name"]) == (
        "function_call",
        "agents",
        "spawn",
    )
    assert (patch["type"], patch["name"], patch["input"]) == (
        "custom_tool_call",
        "apply_patch",
        TEXT,
    )
    assert patch["call_id"] == "call_b"


async def test_the_sdk_streams_a_custom_call(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.generate = CALLS_ALL
    async with sdk(gateway) as client:
        tools: Any = [AGENTS, PATCH]
        stream: Any = await client.responses.create(model="", input="hi", tools=tools, stream=True)
        events = [event async for event in stream]
    (said,) = [e for e in events if e.type == "response.custom_tool_call_input.delta"]
    (done,) = [e for e in events if e.type == "response.custom_tool_call_input.done"]
    assert (said.delta, done.input) == (TEXT, TEXT)
    whole = events[-1].response.output
    assert [item.type for item in whole] == ["function_call", "custom_tool_call"]
    ends = [e.item for e in events if e.type == "response.output_item.done"]
    assert ends == whole


async def test_hosted_tools_and_what_they_did_are_left_out_by_name(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    kinds = ["web_search", "web_search_preview_2025_03_11", "local_shell", "mcp", "file_search"]
    kinds += ["image_generation", "computer_use_preview", "code_interpreter"]
    items: list[dict[str, Any]] = [
        {"role": "user", "content": "hi"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"a": 1}},
        {"type": "mcp_list_tools", "id": "l", "server_label": "x", "tools": []},
        {"type": "compaction", "encrypted_content": "AAAA"},
    ]
    tools = [{"type": kind, "external_web_access": True} for kind in kinds]
    body = {"input": items, "tools": [SPAWN, *tools]}
    reply = await gateway.http.post(PATH, json=body)
    assert reply.status_code == 200, reply.text
    named = reply.headers["x-ignored-parameters"].split(", ")
    left_out = ["input.compaction", "input.mcp_list_tools", "input.web_search_call"]
    assert named == sorted([*left_out, *(f"tools.{kind}" for kind in kinds)])
    assert [t.name for t in worker.calls[-1].request.conversation.tools] == ["spawn"]
    assert [tool["type"] for tool in reply.json()["tools"]] == ["function", *kinds]


async def test_calls_of_every_kind_come_back_with_their_outputs(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    action = {"type": "exec", "command": ["ls", "-l"], "env": {}}
    spawn = {"type": "function_call", "call_id": "a", "name": "spawn", "arguments": "{}"}
    patch = {"type": "custom_tool_call", "call_id": "b", "name": "apply_patch", "input": TEXT}
    chunk = [{"stdout": "x", "outcome": {"type": "exit"}}]
    items: list[dict[str, Any]] = [
        {"role": "user", "content": "hi"},
        spawn | {"namespace": "agents", "id": "fc_1", "status": "completed"},
        patch | {"id": "ctc_1", "status": "completed"},
        {"type": "local_shell_call", "id": "sh", "call_id": "c", "status": "x", "action": action},
        {"type": "shell_call", "call_id": "d", "action": {"commands": ["ls"]}},
        {"type": "function_call_output", "call_id": "a", "output": "1"},
        {"type": "custom_tool_call_output", "call_id": "b", "output": "2"},
        {"type": "local_shell_call_output", "id": "c", "output": "3"},
        {"type": "shell_call_output", "call_id": "d", "output": chunk},
        {"type": "mcp_call", "id": "m", "server_label": "git", "name": "log", "output": "4"},
        {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "AAAA"},
        {"role": "user", "content": "and?"},
    ]
    found = await conversation(gateway, worker, input=items)
    calls = [(c.id, c.name, c.arguments) for m in found.messages for c in m.tool_calls]
    assert calls == [
        ("a", "agents__spawn", "{}"),
        ("b", "apply_patch", json.dumps({"input": TEXT})),
        ("c", "local_shell", json.dumps(action)),
        ("d", "shell", '{"commands": ["ls"]}'),
        ("m", "git__log", ""),
    ]
    results = [(m.tool_call_id, m.content) for m in found.messages if m.role == "tool"]
    expected = [("a", "1"), ("b", "2"), ("c", "3"), ("d", json.dumps(chunk)), ("m", "4")]
    assert results == expected


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ({"type": "custom", "name": "apply_patch"}, "apply_patch"),
        ({"type": "function", "name": "spawn", "namespace": "agents"}, "agents__spawn"),
        ({"type": "function", "name": "mcp__git__spawn"}, "mcp__git__spawn"),
    ],
)
async def test_any_of_them_can_be_chosen(
    gateway: RunningGateway, worker: ScriptedWorker, choice: Any, name: str
) -> None:
    found = await conversation(gateway, worker, tools=[AGENTS, MCP, PATCH], tool_choice=choice)
    assert found.tool_choice.name == name
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [choice, {"type": "mcp"}]}
    found = await conversation(gateway, worker, tools=[AGENTS, MCP, PATCH], tool_choice=allowed)
    assert [tool.name for tool in found.tools] == [name]


async def test_a_whole_request_of_codex_is_taken(gateway: RunningGateway) -> None:
    shell: dict[str, Any] = {
        "type": "function",
        "name": "exec_command",
        "description": "d",
        "strict": False,
        "parameters": {"type": "object", "properties": {"cmd": {"type": "string"}}},
    }
    body = {
        "model": "",
        "instructions": "You are Codex.",
        "input": [
            {
                "type": "message",
                "role": "developer",
                "content": [{"type": "input_text", "text": "a"}],
            },
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "b"}]},
        ],
        "tools": [shell, AGENTS, PATCH, {"type": "web_search", "external_web_access": False}],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "k",
        "text": {"verbosity": "low"},
        "client_metadata": {"x-codex-installation-id": "1"},
    }
    reply = await gateway.http.post(PATH, json=body)
    assert reply.status_code == 200, reply.text
    assert "client_metadata" in reply.headers["x-ignored-parameters"].split(", ")
    assert "response.completed" in reply.text or "response.incomplete" in reply.text


def test_a_text_that_was_cut_stays_as_it_is() -> None:
    for arguments in ('{"input": "ab', "[]", '{"input": 5}', ""):
        assert as_input(arguments) == arguments
    assert as_input('{"input": ""}') == ""
