"""The messages between an embedding worker and its encoder process, in the frames of the pipe.

The worker sends `LoadSpec` once and receives `Facts`; then each call is one request and one event.
Vectors are one `bytes` of little-endian float32, row after row. All are plain data: the servicer
maps them to protobuf, which the encoder process never sees.
"""

from typing import Literal

import msgspec
from msgspec import Struct

from worker_runtime.cache_counts import CacheCounts

Truncate = Literal["end", "start", "none"]
Pooling = Literal["", "mean", "cls", "last"]
# The longest text for llama.cpp: its buffers for attention grow with the square of a batch, and a
# batch must hold the longest text.
MAX_LLAMA_TOKENS = 2048


class LoadSpec(Struct, kw_only=True):
    """Everything an encoder process needs to know."""

    backend: str
    # Where the backend cannot run the model the worker may load it on torch, where its vectors
    # have this fingerprint.
    may_fall_back: bool = False
    torch_fingerprint: str = ""
    path: str
    model_id: str = ""
    fingerprint: str = ""
    precision: str = "auto"  # of OpenVINO: "auto", "f32", "bf16", "int8"
    converted_dir: str = ""  # where models converted for OpenVINO are stored
    device: str = "auto"  # "auto", "cpu", "cuda", "cuda:1", "mps"
    extra_buffers: bool = True  # llama.cpp may store weights in the processor's preferred layout
    n_threads: int = 0  # 0: the physical cores this process may use
    pooling: Pooling = ""  # in place of the model's own; empty: that
    batch_tokens: int = 0  # padded tokens of one micro-batch; 0: the encoder's default
    max_batch_rows: int = 32  # texts of one micro-batch
    max_queued_tokens: int = 2_097_152
    max_queued_inputs: int = 16_384
    cache_bytes: int = 0  # for cached vectors; 0: no cache
    cache_ttl_s: float = 3_600.0
    cache_dir: str = ""  # where vectors are also stored on disk; empty: nowhere
    cache_dir_bytes: int = 0  # for all models' vectors there
    default_dimensions: int = 0  # of vectors, for requests that set none; 0: all
    may_shorten: bool = True  # whether requests may ask for fewer dimensions


class Facts(Struct, kw_only=True):
    """What the encoder reports after loading."""

    backend: str
    device: str
    dimension: int
    max_tokens: int  # of one input, special tokens included
    n_vocab: int
    batch_tokens: int
    precision: str = ""  # of the computation; empty: the dtype of the file
    cosine: float = 1.0  # the smallest cosine to torch in float32, over a few texts
    prompt_names: list[str] = []
    default_prompt_name: str = ""


# Requests.


class Embed(Struct, tag="embed", kw_only=True):
    """Vectors for texts or token ids; answered by `Vectors`."""

    inputs: list[str | list[int]]
    truncate: Truncate = "end"
    prompt_name: str = ""  # empty: the model's default prompt, if it has one
    input_type: str = ""  # the purpose of the inputs, which selects one of the model's prompts
    dimensions: int | None = None  # keep this many and renormalise; None: all
    max_tokens: int | None = None  # of each input, special tokens included; None: the model's


class Score(Struct, tag="score", kw_only=True):
    """How well each document answers its query; answered by `Scores`."""

    queries: list[str]  # one for all documents, or one for each
    documents: list[str]
    truncate: Truncate = "end"  # for documents: a query is never truncated
    max_document_tokens: int | None = None  # keep this many; None: as many as fit
    raw_scores: bool = False  # before a cross-encoder's activation


class Tokenize(Struct, tag="tokenize"):
    """Token ids of texts as the model receives them, not truncated; answered by `TokenLists`."""

    texts: list[str]
    add_special: bool = True  # the tokens that the model adds around every text
    with_pieces: bool = False


class Listen(Struct, tag="listen", kw_only=True):
    """Serve a direct stream. `Listening` is its first event, `Served` the later ones; it ends with
    the stream."""

    secret: bytes  # known to the caller of the stream
    served_model: bytes  # the contract's ServedModel, for every response
    max_inputs: int  # of one call


class StopListening(Struct, tag="stop_listening"):
    """Let the direct stream with this secret take no more calls; has no event."""

    secret: bytes


EncoderRequest = Embed | Score | Tokenize
PipeRequest = EncoderRequest | Listen | StopListening

# Events.


class Vectors(Struct, tag="vectors", kw_only=True):
    vectors: bytes
    dimension: int
    token_counts: list[int]
    truncated: list[int]  # indices of the inputs that were truncated
    n_cached_tokens: int = 0  # of inputs whose vectors were cached
    ignored: list[str] = []  # request fields that have no effect on this model
    caches: dict[str, CacheCounts] = {}  # counts since the last answer, by place


class Scores(Struct, tag="scores", kw_only=True):
    """The scores, in the order of the documents."""

    scores: list[float]
    method: Literal["cross-encoder", "cosine"]
    n_tokens: int
    truncated: list[int]  # indices of the documents that were truncated
    n_cached_tokens: int = 0  # of rows whose scores were cached
    caches: dict[str, CacheCounts] = {}  # as in `Vectors`


class TokenLists(Struct, tag="tokens"):
    ids: list[list[int]]
    pieces: list[list[str]] = []  # in the spelling of the vocabulary, if the request asks for them


class Listening(Struct, tag="listening"):
    port: int  # of the loopback address


class Served(Struct, tag="served"):
    """What a direct stream answered since the last report."""

    n_calls: int = 0
    n_tokens: int = 0
    n_cached_tokens: int = 0
    caches: dict[str, CacheCounts] = {}


EncoderEvent = Vectors | Scores | TokenLists
StreamEvent = Listening | Served

request_decoder: msgspec.msgpack.Decoder[PipeRequest] = msgspec.msgpack.Decoder(PipeRequest)
event_decoder: msgspec.msgpack.Decoder[EncoderEvent] = msgspec.msgpack.Decoder(EncoderEvent)
stream_decoder: msgspec.msgpack.Decoder[StreamEvent] = msgspec.msgpack.Decoder(StreamEvent)
spec_decoder: msgspec.msgpack.Decoder[LoadSpec] = msgspec.msgpack.Decoder(LoadSpec)
facts_decoder: msgspec.msgpack.Decoder[Facts] = msgspec.msgpack.Decoder(Facts)
