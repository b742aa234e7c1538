"""Texts about requests that are wrong, whatever the model."""

MESSAGES = {
    # HTTP, keys and limits.
    "header_repeated": "more than one header {name}",
    "key_needed": "You didn't provide an API key, and this server needs one",
    "key_wrong": "Incorrect API key provided",
    "key_expired": "This API key has expired",
    "endpoint_forbidden": (
        "You have insufficient permissions for this operation. Missing scopes: {scope}"
    ),
    "model_forbidden": "This API key does not have access to model {model!r}",
    "model_unnamed": "This API key may use some models only: the request has to name one of them",
    "requests_limited": (
        "Rate limit reached on requests per min (RPM): Limit {limit}, Used {used}, Requested 1. "
        "Please try again in {wait}."
    ),
    "tokens_limited": (
        "Rate limit reached for {model!r} on tokens per min (TPM): Limit {limit}, Used {used}, "
        "Requested {requested}. Please try again in {wait}."
    ),
    "tokens_too_many": (
        "Request too large for {model!r} on tokens per min (TPM): Limit {limit}, Requested "
        "{requested}. The input or output tokens must be reduced in order to run successfully."
    ),
    "quota_of_day": (
        "You exceeded your current quota: {limit} tokens a day (UTC), of which {used} are used"
    ),
    "quota_of_month": (
        "You exceeded your current quota: {limit} tokens a month (UTC), of which {used} are used"
    ),
    "key_not_known": "there is no key {id!r}",
    "keys_not_kept": "this server has no file for keys",
    "keys_not_written": "the file of keys cannot be written",
    "usage_not_read": "what was used cannot be read now",
    "file_not_known": "there is no file {id!r}",
    "batch_not_known": "there is no batch {id!r}",
    "batch_store_full": "the files of batches have at most {limit_bytes} bytes together",
    "batch_objects_full": "at most {most} files and as many batches are kept",
    "batches_off": "this server keeps no files and runs no batches",
    "file_missing": "the form has no file",
    "context_not_ours": "the context of model {model} is not chosen here",
    "purpose_unsupported": "files are kept for the purpose 'batch' only",
    "file_in_use": "a batch that is not over needs this file",
    "batch_is_over": "the batch is over: {status}",
    "form_wrong": "the body is not a form with a file: {detail}",
    "date_wrong": "{name} is not a date such as 2026-11-29",
    "bodies_in_flight": (
        "the requests in progress fill the room for bodies, {limit_bytes} bytes "
        "(MAX_BODY_BYTES_IN_FLIGHT)"
    ),
    "body_too_large": "the body is larger than {limit_bytes} bytes",
    "too_many_headers": "more than {most} header fields",
    "headers_too_large": "header fields of more than {most_bytes} bytes",
    "coding_unknown": "bodies are not taken in the coding {coding}",
    "two_keys": "more than one Authorization header",
    "too_many_at_once": "more than {most} requests at once",
    "rate_exceeded": "the limit is {limit}",
    "origin_refused": "pages of this origin may not call this server",
    "host_refused": "this server may not be asked under the name {host}",
    "not_http": "this is not a valid HTTP request",
    "too_many_connections": "too many connections",
    "head_too_slow": "the request's head did not arrive in time",
    "http_not_found": "{method} {path}: {detail}",
    "http_method_not_allowed": "{method} {path}: {detail}",
    "http_request_timeout": "{method} {path}: {detail}",
    "http_error": "{method} {path}: {detail}",
    # A request's fields.
    "field_wrong": "{field}: {fault}",
    "body_not_object": "the body must be a JSON object",
    "unknown_parameter": "unknown parameter: {name}",
    "body_not_json": "the body is not valid JSON: {detail}",
    "continued_or_new": (
        "continue_final_message continues the last message, add_generation_prompt begins a new "
        "one: only one of them can be true"
    ),
    "needs_logprobs": "top_logprobs needs logprobs: true",
    "thread_unsupported": "thread is not supported: conversations of this API are not kept",
    "budget_needed": "thinking of type enabled, and no other, needs budget_tokens",
    "budget_too_large": "thinking.budget_tokens must be less than max_tokens",
    "exactly_one_of": "exactly one of {names} is needed",
    "only_function_tools": "only tools of type 'function' are supported: this server runs no tools",
    "prompt_unsupported": "prompt is not supported: no prompts are kept here",
    "background_needs_store": "a response in the background must be stored: store cannot be false",
    "background_full": "{most} responses are being made in the background already",
    "response_in_progress": "the response {id!r} is not complete yet",
    "response_has_no_events": (
        "only a response in the background that was requested with stream: true can be streamed"
    ),
    "response_not_kept": "no response {id!r} is kept here",
    "conversation_not_kept": "no conversation {id!r} is kept here",
    "item_not_kept": "no item {id!r} is kept here",
    "previous_or_conversation": "only one of previous_response_id and conversation can be used",
    "nothing_to_cancel": "only a response in the background can be cancelled",
    "needs_stream": "stream_options needs stream: true",
    "tool_choice_needs_tools": "tool_choice needs tools",
    "content_unsupported": (
        "content of type {kind!r} is not supported: the models here read text only"
    ),
    "tool_choice_unknown": "tool_choice names a tool that is not in tools",
    "tool_choice_allows_unknown": "tool_choice allows a tool that is not in tools",
    "suffix_needs_text": "suffix needs a prompt of text, not of token ids",
    "sampler_unknown": "the sampler {name} does not exist here",
    "template_unsupported": (
        "templates of requests are not used: a model's own template writes its prompts"
    ),
    "raw_alone": "raw takes neither system nor context",
    "context_foreign": "context is not one that this server returned",
    "model_name_needed": "the model's name is missing",
    "model_name_wrong": "this is no name for a model",
    "model_name_taken": "there is a model {model!r} already, and its name is not given to another",
    "from_needed": "from names no model",
    "create_writes_no_files": "{name} is not supported: no file of weights is written here",
    "custom_model_too_large": (
        "system prompt, messages and license together are larger than {most_kib} KiB"
    ),
    "too_many_custom_models": "there are {most} such models already",
    "custom_models_broken": "the file of custom models is damaged and therefore not changed",
    "custom_models_unwritable": "the file of custom models cannot be written",
    "instruction_unsupported": "a Modelfile's instruction {name} is not supported",
    "modelfile_text_open": "a text in three quotes does not end",
    "input_would_be_cut": ("the input is {n_tokens} tokens too long, and truncate is false"),
    "content_blocked": "the rule {rule!r} of this server refuses what the request says",
    "classifier_failed": "the classifier {name!r}, which has to see each request, fails",
    "token_ids_unread": "this server reads what it is sent, and cannot read token ids",
    "best_of_differs": "best_of must equal n",
    "schema_too_large": "the schema is larger than {most_kib} KiB",
    "one_format_only": (
        "only one format can be used: a response_format, a schema, a regex, a grammar or a choice"
    ),
    "container_unsupported": "container is not supported: no code runs",
    "mcp_unsupported": "mcp_servers is not supported: nothing is called from here",
    "tool_choice_needs_name": "tool_choice of type tool, and no other, needs a name",
    "tool_results_unpaired": (
        "each tool_use needs its tool_result in the next message, and the reverse"
    ),
    "tool_type_unsupported": "tools of type {kind!r} are not supported: only the client's own are",
    "role_cannot_hold": "a message of role {role} cannot hold {kind!r}",
    "call_output_without_call": "no function_call with this call_id comes before its output",
    "messages_empty": "messages must not be empty",
    "out_of_range": "{name} must be between {low} and {high}",
    "tools_same_name": "two tools have the same name",
    "tool_choice_missing": "tool_choice asks for a tool that is not there",
    "role_unknown": "the role must be one of {roles}",
    "nothing_to_answer": "there is neither a conversation nor a prompt",
    "template_kwargs_wrong": "chat_template_kwargs may hold {names}, as scalars",
    "keep_alive_no_number": "keep_alive_s is not a number",
    "one_text_only": "exactly one of prompt, content, text and messages must be given",
    "json_schema_incomplete": "a json_schema needs name and schema",
    "json_schema_needed": "type json_schema, and no other, needs json_schema",
    "format_value_needed": "type regex or grammar, and no other, needs its text as value",
    "schema_misplaced": "schema beside type is for type json_object only",
    "nested_deeper": "nested deeper than {most} levels",
    "too_many_entries": "has {n} entries; at most {most} are taken",
    "too_many_fields": "has {n} fields; at most {most} are taken",
    "content_missing": "content is missing",
    "name_missing": "name is missing",
    "keep_alive_wrong": 'neither seconds nor a duration such as "5m" or "1h30m"',
    # pydantic's errors, by type and with the fields of their context.
    "pydantic_missing": "Field required",
    "pydantic_invalid_key": "Keys should be strings",
    "pydantic_string_type": "Input should be a valid string",
    "pydantic_int_type": "Input should be a valid integer",
    "pydantic_int_from_float": (
        "Input should be a valid integer, got a number with a fractional part"
    ),
    "pydantic_float_type": "Input should be a valid number",
    "pydantic_finite_number": "Input should be a finite number",
    "pydantic_bool_type": "Input should be a valid boolean",
    "pydantic_list_type": "Input should be a valid list",
    "pydantic_dict_type": "Input should be a valid dictionary",
    "pydantic_model_type": "Input should be a valid dictionary or instance of {class_name}",
    "pydantic_model_attributes_type": (
        "Input should be a valid dictionary or object to extract fields from"
    ),
    "pydantic_none_required": "Input should be None",
    "pydantic_greater_than": "Input should be greater than {gt}",
    "pydantic_greater_than_equal": "Input should be greater than or equal to {ge}",
    "pydantic_less_than": "Input should be less than {lt}",
    "pydantic_less_than_equal": "Input should be less than or equal to {le}",
    "pydantic_string_too_short": "String should have at least {min_length} characters",
    "pydantic_string_too_short_one": "String should have at least {min_length} character",
    "pydantic_string_too_long": "String should have at most {max_length} characters",
    "pydantic_string_pattern_mismatch": "String should match pattern '{pattern}'",
    "pydantic_too_short": (
        "{field_type} should have at least {min_length} items after validation, not {actual_length}"
    ),
    "pydantic_too_short_one": (
        "{field_type} should have at least {min_length} item after validation, not {actual_length}"
    ),
    "pydantic_too_long": (
        "{field_type} should have at most {max_length} items after validation, not {actual_length}"
    ),
    "pydantic_too_long_one": (
        "{field_type} should have at most {max_length} item after validation, not {actual_length}"
    ),
    "pydantic_literal_error": "Input should be {expected}",
    "pydantic_enum": "Input should be {expected}",
    "pydantic_union_tag_invalid": (
        "Input tag '{tag}' found using {discriminator} does not match any of the expected tags: "
        "{expected_tags}"
    ),
    "pydantic_union_tag_not_found": "Unable to extract tag using discriminator {discriminator}",
}
