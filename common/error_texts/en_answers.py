"""Texts about answers that a model, or a remote server, cannot give."""

# In the words of Anthropic and OpenAI, by which agents know that they must shorten a talk.
TOO_LONG = (
    "{n_tokens} tokens > {most} maximum. "
    "This model's maximum context length is {most} tokens for a prompt"
)

MESSAGES = {
    # Answers and the formats that they must follow.
    "model_does_not_chat": "the model {model!r} makes vectors; it does not chat",
    "input_too_long_to_trim": "the input is too long for the model, and truncation is disabled",
    "text_too_long": "the text is longer than 16 MiB",
    "text_not_tokenizable": "the text cannot be tokenized",
    "token_unknown": "the text holds a token that this model does not know",
    "schema_refused_at": "the schema cannot be enforced at {place}: {detail}",
    "schema_not_object": "the schema is not a JSON object",
    "constraint_refused": "the {kind} cannot be enforced: {detail}",
    "grammar_too_long": "longer than {most_ki} Ki characters",
    "no_end_token": "the model has no end token, so no grammar can end its answer",
    "schema_not_json": "the schema is not JSON",
    "schema_too_deep": "the schema cannot be enforced: too deep",
    "token_out_of_vocabulary": "a token is not in the vocabulary",
    "request_not_prepared": "the request could not be prepared",
    "tokens_not_known": "the tokens and the template of a {backend} model are not known here",
    "prompt_as_text_only": "a {backend} model takes its prompt as text only",
    "echo_not_offered": "echo is not offered for {backend} models",
    "backend_failed": "the backend {backend!r} failed on this request ({kind})",
    "backend_lacks": "the backend {backend!r} does not offer {name}",
    "prompt_empty": "the prompt must not be empty",
    "token_not_in_vocabulary": "token {token} is not in the vocabulary of {n_vocab}",
    "request_not_passed_on": "the request could not be passed on",
    "model_failed": "the model failed on this request",
    "format_dead_end": (
        "the format cannot be followed: its grammar leads nowhere, or grew too complex"
    ),
    "answer_not_written": "the answer could not be written",
    "engine_stopped": "the engine stopped unexpectedly",
    "requests_queue_full": "{n_requests} requests are running or waiting already",
    "no_room_for_calls": "a {kind} leaves no room for calls, but tools are offered",
    "thinking_budget_wrong": "thinking_budget must be a number of tokens",
    "parameters_no_schema": "the parameters are not a JSON schema of an object",
    "no_marker_left": "the messages use all of Unicode's non-characters",
    "template_too_slow": "the model's chat template took too long over these messages",
    "template_refuses": "the model's chat template refuses these messages: {detail}",
    "template_forbidden": "the model's chat template does what templates must not do",
    "template_fails": (
        "the model's chat template fails on these messages ({kind}); it may expect other roles "
        "or another order of turns"
    ),
    "input_too_long": f"the prompt is too long: {TOO_LONG}",
    "input_too_long_because": f"the prompt is too long: {TOO_LONG}: {{why}}",
    "input_too_long_at_least": f"the prompt is too long: at least {TOO_LONG}",
    "input_too_long_at_least_because": f"the prompt is too long: at least {TOO_LONG}: {{why}}",
    "preparation_too_slow": "the input could not be prepared in {limit_s} s",
    "context_reduced": (
        "the model was loaded with a context of {n_ctx} tokens instead of {wanted}, for lack of "
        "memory"
    ),
    "fault_of_tool": "tool {tool!r}: {fault}",
    "nothing_satisfies": "nothing satisfies it",
    "nested_too_deeply": "nested too deeply",
    # Remote models, which another server runs.
    "remote_failed_midway": "the remote server failed while it answered",
    "remote_refuses": "the remote server refuses the request: {detail}",
    "remote_redirects": "the remote server redirects, which is not followed",
    "remote_unreachable": "the remote server cannot be reached",
    "remote_silent": "the remote server was silent for too long",
    "remote_connection_broke": "the connection to the remote server broke",
    "remote_broke_off": "the remote server broke its answer off",
    "remote_unasked_choice": "the remote server answers with a choice nobody asked for",
    "remote_not_understood": "the remote server's answer is not understood",
    "not_for_remote": "{name} is not offered for remote models",
    "schema_invalid_json": "a schema is not valid JSON",
    "bare_prompt_without_format": "a remote model answers a bare prompt without a format",
    "remote_too_large": "the remote server's answer is too large",
    "remote_unusable": "the remote model cannot be used: {why}",
    "remote_not_streaming": "the remote server does not stream its answers",
    "remote_header_not_ascii": "a header or the key holds other than printable ASCII",
    "remote_refuses_key_of_server": "its server refuses this server's key",
    "remote_key_unreadable": "its key cannot be read",
    "remote_ca_unreadable": "its ca_file cannot be read",
    "remote_not_answering": "its server does not answer",
    "remote_answers_status": "its server answers {status} when asked for its models",
    "remote_refuses_key": "the remote server refuses this server's key",
    "remote_lacks_model": "the remote server does not know this model",
    "remote_too_slow": "the remote server took too long",
    "remote_takes_less": "the request is larger than the remote server takes",
    "remote_full": "the remote server takes no more requests now",
    "remote_not_ready": "the remote server is not ready",
    "remote_failed": "the remote server failed",
    # Embeddings and ranking.
    "model_makes_no_vectors": "the model {model!r} chats; it makes no vectors",
    "no_messages_to_embed": "an embedding model takes no messages",
    "documents_needed": "either documents or texts is needed",
    "special_tokens_are_text": "embedding models read special tokens in a text as plain text",
    "model_scores_pairs": "the model {model!r} scores pairs of texts; it makes no vectors",
    "document_too_long": (
        "the document has {n_tokens} tokens, the model takes {most} beside the query"
    ),
    "text_empty": "the text is empty",
    "query_too_long": "the query has {n_tokens} tokens, the model takes {most} beside a document",
    "prompt_name_unknown": "the model has no prompt {name!r}",
    "embed_input_too_long": (
        "the input has {n_tokens} tokens; this model's maximum context length is {most} tokens"
    ),
    "input_empty": "the input is empty",
    "token_ids_empty": "the list of token ids is empty",
    "token_id_unknown": "token id {token} is not in the model's vocabulary of {n_vocab} tokens",
    "cut_impossible": "inputs were to be cut to {most} tokens; {low} to {high} are possible",
    "input_without_tokens": "the input has no tokens",
    "input_not_computed": "the model could not compute this input",
    "embed_queue_full": (
        "{n_inputs} inputs of {n_tokens} tokens wait for this model: the queue is full"
    ),
    "no_input": "there is no input",
    "dimensions_too_many": "dimensions is {wanted}, the model's vectors have {most}",
    "dimensions_fixed": "the model was not trained for shortened vectors",
    "no_documents": "there are no documents",
    "queries_unpaired": (
        "there are {n_queries} texts for {n_documents}; one is needed, or one for each"
    ),
    "input_of_unknown_kind": "the input is neither text nor token ids",
    "too_many_inputs": "the request has {n_inputs} inputs; 1 to {most} are taken",
    "top_n_zero": "top_n is 0; at least 1 is needed",
    "truncate_unknown": "truncate has the unknown value {value}",
    "model_cannot_infill": "the model {model!r} was not trained to fill in the middle of a text",
}
