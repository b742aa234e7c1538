"""The messages between a chat worker and its engine process, inside the frames of the pipe.

The worker sends `LoadSpec` once and receives `Facts`; then each call is one request struct and a
stream of event structs. All are plain data: the servicer maps them to protobuf, which the engine
never sees.
"""

from typing import Literal

import msgspec
from msgspec import Struct

from common.sampling_ranges import DEFAULT_TEMPERATURE, DEFAULT_TOP_P


class LoadSpec(Struct, kw_only=True):
    """Everything an engine process needs to know; sizes in tokens unless the name has a unit."""

    backend: str
    path: str
    model_id: str = ""
    n_ctx: int = 0  # per request; 0: the model's own, up to 4,096
    wanted_n_ctx: int = 0  # the configured one, if memory sufficed only for less; else 0
    n_cells: int = 0  # of the whole KV cache; 0: n_ctx × n_parallel, up to max_cells
    max_cells: int = 32_768
    n_parallel: int = 4  # sequences decoded together
    n_batch: int = 2_048
    n_ubatch: int = 512
    n_threads: int = 0  # 0: the physical cores this process may use
    max_input_tokens: int = 0  # 0: as many as the context takes
    max_input_chars: int = 0  # 0: no limit
    on_overflow: Literal["trim", "refuse"] = "trim"
    default_system_prompt: str = ""
    # Renders conversations in place of the model's own; empty: none. Jinja.
    chat_template: str = ""
    # An adapter for llama.cpp, and how much it counts; empty: none.
    lora: str = ""
    lora_scale: float = 1.0
    global_seed: int | None = None
    # Guess tokens that occur in the prompt; the answers are the same.
    speculate: bool = True
    # The longest wait of answers for the prompts of other requests, in seconds.
    answer_wait_s: float = 2.5
    kv_type: Literal["f16", "q8_0"] = "f16"
    # llama.cpp's attention in tiles, which a cache in q8_0 needs; without it, scores of all cells.
    flash_attention: bool = True
    # Weights may be stored in the processor's preferred layout; off if that code fails.
    extra_buffers: bool = True
    # Folder for prefixes that outlive the process; empty: none. The fingerprint is the model's.
    kept_folder: str = ""
    kept_bytes: int = 0
    fingerprint: str = ""
    # Folder for what is learnt of the machine, such as the costs of steps; empty: none.
    learnt_folder: str = ""
    repetition_penalty: float = 1.0  # for requests that set none
    # For the transformers backend.
    torch_dtype: Literal["auto", "float16", "bfloat16", "float32"] = "auto"
    quantization: Literal["none", "4bit", "8bit"] = "none"
    compile: bool = False
    # For the openvino backend; the folder is that of converted models.
    precision: Literal["auto", "f32", "bf16", "int8"] = "auto"
    converted_dir: str = ""
    device: str = "CPU"
    weight_bits: Literal[4, 8] = 8
    # Only measure its speed: such a process serves no request.
    measures: bool = False


class Facts(Struct, kw_only=True):
    """What the engine process reports after loading."""

    backend: str
    n_ctx: int
    n_ctx_train: int
    n_vocab: int
    n_parallel: int
    n_cells: int
    # Which template renders its conversations, see `default_templates`; empty: none here.
    chat_template: str = ""
    description: str = ""
    # Tokens per second, if they were to be measured.
    prompt_speed: float = 0.0
    answer_speed: float = 0.0


# Requests.


class ToolCall(Struct):
    id: str
    name: str
    arguments: str  # JSON text


class Message(Struct):
    role: str
    content: str = ""
    name: str = ""
    tool_calls: list[ToolCall] = []
    tool_call_id: str = ""
    reasoning: str = ""


class Tool(Struct):
    """A function that the model may ask the client to call."""

    name: str
    description: str = ""
    parameters: str = "{}"  # JSON schema of the arguments, as JSON text
    strict: bool = False  # the arguments must follow the schema


class Conversation(Struct, tag="conversation"):
    messages: list[Message]
    template_kwargs: dict[str, str | bool | int | float] = {}
    tools: list[Tool] = []  # also empty if the request forbids calls
    # Calls are required: of any tool, or of the named one.
    must_call: bool = False
    must_call_name: str = ""
    parallel_calls: bool = True


class Prompt(Struct, tag="prompt"):
    """A raw prompt.

    Args:
        parse_special: spellings of control tokens become these tokens instead of plain text.
    """

    text: str
    parse_special: bool = False


class PromptTokens(Struct, tag="tokens"):
    ids: list[int]


class InfillFile(Struct, array_like=True):
    name: str
    text: str


class Infill(Struct, tag="infill"):
    """A text whose middle is missing.

    Args:
        begun: what the middle begins with.
        files: other files that belong to the text.
    """

    prefix: str
    suffix: str
    begun: str = ""
    files: list[InfillFile] = []


class Sampling(Struct, kw_only=True):
    """How tokens are chosen; a temperature of 0 is greedy."""

    temperature: float = DEFAULT_TEMPERATURE
    top_p: float = DEFAULT_TOP_P
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float | None = None  # None: the model's backend decides
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    logit_bias: dict[int, float] = {}


class ConstraintSpec(Struct):
    """What the answer must follow; "tools" is a Lark grammar of calls, created by this server.

    Args:
        has_raw_texts: for a grammar of calls: parts of it are not JSON.
    """

    kind: Literal["json_object", "json_schema", "regex", "grammar", "tools"]
    text: str = ""
    has_raw_texts: bool = False


class Generate(Struct, tag="generate", kw_only=True):
    input: Conversation | Prompt | PromptTokens | Infill
    sampling: Sampling = msgspec.field(default_factory=Sampling)
    max_tokens: int | None = None  # None: as many as fit into the context
    stop: list[str] = []
    n: int = 1
    top_logprobs: int | None = None
    ignore_eos: bool = False
    echo: bool = False
    constraint: ConstraintSpec | None = None
    cache_salt: str = ""
    # The headers of W3C Trace Context, for another server.
    trace: dict[str, str] = {}


class Tokenize(Struct, tag="tokenize"):
    text: str
    add_special: bool = False
    parse_special: bool = False


class Detokenize(Struct, tag="detokenize"):
    tokens: list[int]


class ApplyTemplate(Struct, tag="apply_template"):
    conversation: Conversation


EngineRequest = Generate | Tokenize | Detokenize | ApplyTemplate

# Events.


class Queued(Struct, tag="queued"):
    """All parallel sequences are in use; `position` 1 is next."""

    position: int


class Started(Struct, tag="started"):
    prompt_tokens: int  # 0 if they are reported only with `Finished`
    cached_tokens: int
    trimmed_tokens: int = 0
    trimmed_messages: int = 0
    # Names of template arguments and of tools' properties that have no effect.
    ignored: list[str] = []


class Candidate(Struct, array_like=True):
    token: int
    text: bytes
    logprob: float


class TokenLogprob(Struct, array_like=True):
    """Log-probabilities of the model's own distribution, before any sampling parameter; NaN for the
    first token of a repeated prompt, which has none."""

    chosen: Candidate
    top: list[Candidate] = []


class CallPiece(Struct, array_like=True):
    """A part of a tool call; only the first part has the id and the name."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class Delta(Struct, tag="delta"):
    choice: int
    text: str
    n_tokens: int
    logprobs: list[TokenLogprob] = []
    reasoning: str = ""
    calls: list[CallPiece] = []


class ChoiceEnd(Struct):
    choice: int
    reason: Literal["stop", "length", "tool_calls"]
    stop_sequence: str | None = None


class Finished(Struct, tag="finished", kw_only=True):
    choices: list[ChoiceEnd]
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int = 0
    queue_s: float
    prefill_s: float
    decode_s: float


class Tokens(Struct, tag="tokens"):
    ids: list[int]
    pieces: list[bytes]


class RenderedText(Struct, tag="text"):
    text: str
    # The tokens of a rendered template.
    tokens: list[int] = []
    pieces: list[bytes] = []


EngineEvent = Queued | Started | Delta | Finished | Tokens | RenderedText

request_decoder: msgspec.msgpack.Decoder[EngineRequest] = msgspec.msgpack.Decoder(EngineRequest)
event_decoder: msgspec.msgpack.Decoder[EngineEvent] = msgspec.msgpack.Decoder(EngineEvent)
spec_decoder: msgspec.msgpack.Decoder[LoadSpec] = msgspec.msgpack.Decoder(LoadSpec)
facts_decoder: msgspec.msgpack.Decoder[Facts] = msgspec.msgpack.Decoder(Facts)
