"""The marks with which models begin and end tool calls."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Marks:
    """One pair of marks.

    Args:
        opener: begins the calls.
        closer: ends them; if it is empty, only the end of the reply does.
        is_part: the opener is a part of the call itself, so parsers need it.
    """

    opener: str
    closer: str = ""
    is_part: bool = False


ALL = (
    # Qwen, Hermes, Granite 4, Bielik, MiMo, Reka; with another notation inside: Qwen3-Coder, GLM,
    # Nemotron 3
    Marks("<tool_call>", "</tool_call>"),
    # Apriel, MiniMax M1
    Marks("<tool_calls>", "</tool_calls>"),
    Marks("<tools>", "</tools>"),
    # Nemotron Nano 2
    Marks("<TOOLCALL>", "</TOOLCALL>"),
    Marks("<seed:tool_call>", "</seed:tool_call>"),
    # MiniMax M2, M3
    Marks("<minimax:tool_call>", "</minimax:tool_call>"),
    Marks("]<]minimax[>[<tool_call>", "]<]minimax[>[</tool_call>"),
    # Hunyuan
    Marks("<tool_calls:opensource>", "</tool_calls:opensource>"),
    # DeepSeek
    Marks("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
    Marks("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", is_part=True),
    Marks("<｜DSML｜function_calls>", "</｜DSML｜function_calls>"),
    Marks("<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>"),
    # Kimi
    Marks("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
    Marks("<|tool_call_begin|>", "<|tool_call_end|>", is_part=True),
    Marks("<|open|>tools<|sep|>", "<|close|>tools<|sep|>"),
    # Command-R+, then Command-R 7B and later
    Marks("Action:\n```json", "```"),
    Marks("Action: ```json", "```"),
    Marks("<|START_ACTION|>", "<|END_ACTION|>"),
    # LFM 2
    Marks("<|tool_call_start|>", "<|tool_call_end|>"),
    # Apertus
    Marks("<|tools_prefix|>", "<|tools_suffix|>"),
    # Solar
    Marks("<|tool_calls|>", "<|calls|>"),
    # Gemma 4
    Marks("<|tool_call>", "<tool_call|>"),
    # Granite 3, Phi-4
    Marks("<|tool_call|>", "<|/tool_call|>"),
    # gpt-oss: the recipient of a message on the commentary channel
    Marks("<|channel|>commentary to=functions.", "<|call|>"),
    Marks("to=functions.", "<|call|>"),
    # Muse
    Marks("<atem:function_calls>", "</atem:function_calls>"),
    # GigaChat 3
    Marks("<|message_sep|>\n\nfunction call<|role_sep|>"),
    Marks("[TOOL_CALLS]"),
    Marks("<|python_tag|>"),
    Marks("<|function_call|>"),
    Marks("functools["),
    # Functionary 3.2; its prompts end with this mark, so a reply's first call has none.
    Marks(">>>"),
    Marks("<function=", "</function>", is_part=True),
    Marks('<function name="', "</function>", is_part=True),
    Marks('<invoke name="', "</invoke>", is_part=True),
)
BY_OPENER = {marks.opener: marks for marks in ALL}
# Longer marks come first, because some marks begin with another one.
OPENERS = tuple(sorted(BY_OPENER, key=len, reverse=True))
OPENER = re.compile("|".join(map(re.escape, OPENERS)))
CLOSERS = tuple(sorted({marks.closer for marks in ALL if marks.closer}, key=len, reverse=True))
# What may separate or follow calls.
SEPARATORS = (*CLOSERS, "```", ",", ";", "]")
# At the very beginning of a reply, calls may also come without marks or in a code fence.
BARE = Marks("")
FENCES = ("```json", "```tool_call", "```python", "```")
# Marks that a tokenizer may hold as control tokens. Their text is normally hidden, but the parsers
# need it.
SHOWN = (
    *OPENERS,
    *CLOSERS,
    *("[ARGS]", "[CALL_ID]", "<|message|>", "<|channel|>", "<|constrain|>", "<|start|>", "<|end|>"),
    *("<｜tool▁sep｜>", "<|tool_call_argument_begin|>", "<|open|>", "<|close|>", "<|sep|>"),
    *("<|tool_call:begin|>", "<|tool_call:name|>", "<|tool_call:args|>", "<|tool_call:end|>"),
    *("<|message_sep|>", "<|role_sep|>"),
    *('<|"|>', "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "<tool_sep>"),
)
