"""How many tokens a request may use, before a tokenizer has seen it: what limits reserve."""

from protos.y26hkx.v1 import chat_pb2, embed_pb2

# English has about four bytes in a token, Chinese three in about one; what is wrong is corrected
# when the worker has counted.
BYTES_PER_TOKEN = 4

Inputs = embed_pb2.EmbedRequest | embed_pb2.RerankRequest | embed_pb2.ScoreRequest


def tokens_at_most(request: chat_pb2.GenerateRequest, default: int) -> int:
    """The tokens of the prompt, estimated, and of all answers at their longest.

    Args:
        default: tokens of an answer where the request sets no limit.
    """
    ids = len(request.prompt_tokens.ids)
    n_bytes = request.conversation.ByteSize() or len(request.prompt)
    prompt = ids or n_bytes // BYTES_PER_TOKEN + 1
    longest = request.max_tokens if request.HasField("max_tokens") else default
    return prompt + longest * max(1, request.n)


def tokens_of_inputs(request: Inputs) -> int:
    """The tokens of what an embedding model reads, estimated."""
    ids = 0
    if isinstance(request, embed_pb2.EmbedRequest):
        ids = sum(len(one.tokens.ids) for one in request.inputs if one.HasField("tokens"))
    return ids or request.ByteSize() // BYTES_PER_TOKEN + 1
