"""How a GGUF reranker expects a query with a document: by its template, or around special tokens.

Source: `format_prompt_rerank` of llama.cpp's server.
"""

from typing import Any

from common.error_texts import ErrorText
from common.errors import BackendLoadFailed
from embed_worker.encoders.llama_cpp_tokens import LlamaTokenization
from embed_worker.encoders.pairs import Frame, Pairs, PairTemplate, TemplatePairs

QUERY, DOCUMENT = "{query}", "{document}"


def rerank_template(native: Any, model: Any) -> PairTemplate | None:
    """Return the template for pairs in the file; None if it has none.

    Raises:
        BackendLoadFailed: the template lacks the place of the query or of the document.
    """
    found = native.llama_model_chat_template(model, b"rerank")
    if not found:
        return None
    text = found.decode("utf-8", "replace")
    begin, has_query, rest = text.partition(QUERY)
    between, has_document, tail = rest.partition(DOCUMENT)
    if not has_query or not has_document:
        raise BackendLoadFailed(ErrorText("pairs_unknown"), metadata={"backend": "llama.cpp"})
    # No token extends over the beginning of a line, so the plain text may begin there.
    line = begin.rfind("\n") + 1
    return PairTemplate(begin[:line], begin[line:], between, tail)


def pairs_of(
    native: Any, model: Any, tokens: LlamaTokenization, template: PairTemplate | None
) -> Pairs:
    """Return what builds the rows of a reranker."""
    most = tokens.max_tokens
    if template is not None:
        return TemplatePairs(tokens.encode_plain, tokens.encode_special, template, max_tokens=most)
    vocab = native.llama_model_get_vocab(model)
    separator, end = int(native.llama_vocab_sep(vocab)), int(native.llama_vocab_eos(vocab))
    ends = [end if end >= 0 else separator] if native.llama_vocab_get_add_eos(vocab) else []
    separates = [separator] if native.llama_vocab_get_add_sep(vocab) else []
    # The server leaves the last separator out where BERT was trained with it.
    before, after = tokens.around
    return Pairs(tokens.encode_plain, Frame(before, [*ends, *separates], after), max_tokens=most)
