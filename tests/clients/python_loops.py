"""Tool loops of other people's Python clients: two turns, the first with a call and its result.

    python python_loops.py litellm http://127.0.0.1:8001/v1

It runs in a virtual environment with those clients, not in ours, and prints what it got as one line
of JSON: the calls, the answer to their result, the answer of the second turn, and whether streamed.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any, Literal

MODEL, KEY = "qwen2-y26hkx-guide", "none"
QUESTION, MORE = "Which weather has Bern?", "What is Y26HKX?"
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"enum": ["Bern", "Oslo"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL: Any = {
    "type": "function",
    "function": {"name": "weather", "description": "Of a city.", "parameters": PARAMETERS},
}
MOST_TOKENS = 200


def told(calls: list[str], answer: str, second: str) -> dict[str, Any]:
    return {"calls": calls, "answer": answer, "second": second}


def _result(call_id: str) -> dict[str, str]:
    return {"role": "tool", "tool_call_id": call_id, "content": "sunny"}


def litellm(base_url: str) -> dict[str, Any]:
    # Otherwise it fetches a list of prices when it is imported.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # noqa: TID251 - its own
    from litellm import completion, stream_chunk_builder

    def ask(messages: list[Any], **fields: Any) -> Any:
        chunks = completion(
            model=f"openai/{MODEL}", api_base=base_url, api_key=KEY, messages=messages,
            tools=[TOOL], max_tokens=MOST_TOKENS, temperature=0, stream=True, **fields,
        )  # fmt: skip
        whole: Any = stream_chunk_builder(list(chunks), messages=messages)
        return whole.choices[0].message

    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    first = ask(messages, tool_choice="required", parallel_tool_calls=False)
    messages.append(first)
    calls = [call.function.arguments for call in first.tool_calls]
    messages += [_result(call.id) for call in first.tool_calls]
    answer = ask(messages)
    messages += [answer, {"role": "user", "content": MORE}]
    return told(calls, answer.content, ask(messages).content)


def huggingface_hub(base_url: str) -> dict[str, Any]:
    from huggingface_hub import InferenceClient

    client = InferenceClient(base_url=base_url, api_key=KEY)

    def ask(messages: list[Any], **fields: Any) -> tuple[str, list[Any]]:
        text = ""
        calls: list[Any] = []
        for chunk in client.chat_completion(
            messages, model=MODEL, tools=[TOOL], max_tokens=MOST_TOKENS, temperature=0,
            stream=True, **fields,
        ):  # fmt: skip
            if chunk.choices:
                delta = chunk.choices[0].delta
                text += delta.content or ""
                calls += delta.tool_calls or []
        return text, calls

    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    _, made = ask(messages, tool_choice="required")
    listed = [{"id": call.id, "type": "function", "function": dict(call.function)} for call in made]
    messages.append({"role": "assistant", "content": "", "tool_calls": listed})
    messages += [_result(call.id) for call in made]
    answer, _ = ask(messages)
    messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": MORE}]
    return told([call.function.arguments for call in made], answer, ask(messages)[0])


def llama_index(base_url: str) -> dict[str, Any]:
    from llama_index.core.llms import ChatMessage
    from llama_index.core.tools import FunctionTool
    from llama_index.llms.openai_like import OpenAILike

    def weather(city: Literal["Bern", "Oslo"]) -> str:
        """Of a city."""
        return "sunny"

    tool = FunctionTool.from_defaults(weather)
    model = OpenAILike(
        model=MODEL, api_base=base_url, api_key=KEY, is_chat_model=True,
        is_function_calling_model=True, max_tokens=MOST_TOKENS, temperature=0,
    )  # fmt: skip

    def ask(history: list[Any], **fields: Any) -> Any:
        *_, last = model.stream_chat_with_tools([tool], chat_history=history, **fields)
        return last

    history = [ChatMessage(role="user", content=QUESTION)]
    first = ask(history, tool_required=True)
    made = model.get_tool_calls_from_response(first)
    history.append(first.message)
    for call in made:
        extra = {"tool_call_id": call.tool_id, "name": call.tool_name}
        history.append(ChatMessage(role="tool", content="sunny", additional_kwargs=extra))
    answer = ask(history)
    history += [answer.message, ChatMessage(role="user", content=MORE)]
    calls = [json.dumps(call.tool_kwargs) for call in made]
    return told(calls, answer.message.content or "", ask(history).message.content or "")


def langchain_mistralai(base_url: str) -> dict[str, Any]:
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_mistralai import ChatMistralAI

    model = ChatMistralAI(
        endpoint=base_url, mistral_api_key=KEY, model_name=MODEL, temperature=0,
        max_tokens=MOST_TOKENS, max_retries=0,
    )  # fmt: skip

    def ask(messages: list[Any], **fields: Any) -> Any:
        first, *rest = model.bind_tools([TOOL], **fields).stream(messages)
        for chunk in rest:
            first += chunk
        return first

    messages: list[Any] = [HumanMessage(QUESTION)]
    first = ask(messages, tool_choice="any")
    messages.append(first)
    messages += [ToolMessage("sunny", tool_call_id=call["id"]) for call in first.tool_calls]
    answer = ask(messages)
    messages += [answer, HumanMessage(MORE)]
    calls = [json.dumps(call["args"]) for call in first.tool_calls]
    return told(calls, str(answer.content), str(ask(messages).content))


def openai_agents(base_url: str, *, responses: bool = True) -> dict[str, Any]:
    from agents import (
        Agent,
        ModelSettings,
        OpenAIChatCompletionsModel,
        OpenAIConversationsSession,
        OpenAIResponsesModel,
        Runner,
        function_tool,
        set_tracing_disabled,
    )
    from openai import AsyncOpenAI

    set_tracing_disabled(True)
    calls: list[str] = []

    @function_tool
    def weather(city: Literal["Bern", "Oslo"]) -> str:
        """Of a city."""
        calls.append(json.dumps({"city": city}))
        return "sunny"

    kind = OpenAIResponsesModel if responses else OpenAIChatCompletionsModel
    client = AsyncOpenAI(base_url=base_url, api_key=KEY, max_retries=0)
    agent = Agent(
        name="guide",
        instructions="Help.",
        model=kind(MODEL, client),
        tools=[weather],
        model_settings=ModelSettings(
            tool_choice="required", temperature=0, max_tokens=MOST_TOKENS, parallel_tool_calls=False
        ),
    )

    async def turns() -> dict[str, Any]:
        session = OpenAIConversationsSession(openai_client=client) if responses else None
        first = Runner.run_streamed(agent, QUESTION, session=session)
        kinds = [event.type async for event in first.stream_events()]
        assert "raw_response_event" in kinds
        more: Any = [*first.to_input_list(), {"role": "user", "content": MORE}]
        # What comes before is in the session, which the server keeps.
        asked = more[-1:] if session else more
        free = agent.clone(model_settings=ModelSettings(temperature=0, max_tokens=MOST_TOKENS))
        second = Runner.run_streamed(free, asked, session=session)
        async for _ in second.stream_events():
            pass
        if session is not None:
            kept = await session.get_items()
            assert await session.pop_item() == kept[-1]
            assert await session.get_items() == kept[:-1]
            await session.clear_session()
        return told(calls, first.final_output, second.final_output)

    return asyncio.run(turns())


def openai_agents_chat(base_url: str) -> dict[str, Any]:
    return openai_agents(base_url, responses=False)


def outlines(base_url: str) -> dict[str, Any]:
    """It has no tools; what it asks for is an object of a class, twice."""
    import openai
    from outlines import from_openai
    from pydantic import BaseModel

    class City(BaseModel):
        city: Literal["Bern", "Oslo"]

    model = from_openai(openai.OpenAI(base_url=base_url, api_key=KEY), MODEL)
    whole = str(model(QUESTION, City, max_tokens=MOST_TOKENS))
    streamed = "".join(model.stream(MORE, City, max_tokens=MOST_TOKENS))
    return told([whole, streamed], whole, streamed)


# The clients, and the packages that they are in.
CLIENTS: dict[Callable[[str], dict[str, Any]], str] = {
    litellm: "litellm",
    huggingface_hub: "huggingface_hub",
    llama_index: "llama-index-llms-openai-like",
    langchain_mistralai: "langchain-mistralai",
    openai_agents: "openai-agents",
    openai_agents_chat: "openai-agents",
    outlines: "outlines",
}


def main() -> None:
    name, base_url = sys.argv[1:]
    client = next(each for each in CLIENTS if each.__name__ == name)
    found = client(base_url) | {"version": metadata.version(CLIENTS[client])}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
