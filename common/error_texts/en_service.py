"""Texts about failures of this server and of loading models."""

MESSAGES = {
    # This server's own state.
    "server_stopping": "the server is shutting down",
    "responses_store_failed": "the stored responses cannot be read or written",
    "gateway_failed": "the gateway failed; the log has the request's id",
    "worker_failed": "the worker failed",
    "request_too_slow": "the request took too long",
    "worker_overloaded": "the worker is overloaded",
    "worker_lost": "the worker was lost",
    "worker_lacks_method": "the worker does not offer this",
    "answer_broken_off": "the worker ended the answer too early",
    "worker_silent": "the worker was silent for too long",
    "no_worker_free": "no worker can take this request now",
    "client_left": "the client left",
    "cancelled_by_operator": "the request was cancelled by an operator of this server",
    "no_embedding_worker": "no embedding worker can be reached",
    "no_worker_configured": "no worker is configured: set CHAT_WORKERS or EMBED_WORKERS",
    "no_worker_serves": "no worker serves {services} yet",
    "no_worker_reached": "no worker can be reached",
    "model_not_found": "the model {model!r} does not exist",
    "engine_miscounted": "the engine answered with {n_events} events instead of one",
    "worker_token_wrong": "the worker's token is missing or wrong",
    "rpc_malformed": "the call's message cannot be read",
    "worker_stopping": "the worker is shutting down",
    "model_unloaded": "the model is not loaded",
    "too_many_direct_streams": "the model's process serves {most} direct streams already",
    "reader_too_slow": "the answer was read too slowly",
    "worker_failed_to_manage": "the worker failed to manage the model",
    "worker_failed_logged": "the worker failed; its log has the reason",
    "too_many_wait_for_load": "too many requests wait for this model to load",
    "call_failed_logged": "the worker failed; its log has the details",
    "turn_too_late": "other requests are served first, and its turn did not come in time",
    "no_first_token": "no first token came within {limit_s} s",
    "process_died": "the model's process died ({how})",
    "process_stopped": "the model's process was stopped ({how})",
    "no_model_yet": "there is no model here yet",
    "models_hold_memory": "other models are in use and hold the memory for more than {wait_s} s",
    "programs_wait_for_memory": (
        "programs of this machine wait for memory, so that no model is loaded for more than "
        "{wait_s} s"
    ),
    # Models that are loaded.
    "file_gone": "the file {file} is gone",
    "llama_file_refused": (
        "the file of model {model} is damaged, incomplete, or of a kind that this llama.cpp does "
        "not know"
    ),
    "generates_no_text": "model {model} does not generate text",
    "context_not_made": "the context of model {model} could not be made",
    "template_not_valid": "the chat template that models.toml names is not valid Jinja: {detail}",
    "lora_refused": "llama.cpp refuses the adapter {file}: it may be of another model",
    "does_not_compute": "the model was loaded but does not compute",
    "llama_missing": "llama-cpp-python is missing or does not run on this machine",
    "not_compiled": (
        "the model could not be compiled: torch.compile needs a C++ compiler, and does not take "
        "every model"
    ),
    "weights_damaged": (
        "the model's weights are damaged or incomplete, or not of the kind that its config.json "
        "names"
    ),
    "needs_own_code": "the model needs code that comes with it (auto_map), which is never run",
    "bitsandbytes_missing": "MODEL_QUANTIZATION={bits} needs bitsandbytes, which is not installed",
    "transformers_refuses": (
        "the installed transformers does not know this kind of model, or its config.json is damaged"
    ),
    "architecture_unsupported": (
        "models of type {kind} keep more of a text than keys and values, or attend in a way that "
        "the transformers backend does not know"
    ),
    "tokenizer_unknown": "the model's tokenizer is of a kind that is not known here",
    "file_damaged": "{file} is damaged",
    "folder_without_tokenizer": "the model's folder has no tokenizer.json",
    "file_too_large": "{file} is too large",
    "backend_unavailable": "the {backend} backend is not available in this version",
    "backend_not_installed": "no installed package offers the backend {backend!r}",
    "backend_incomplete": "the backend {backend!r} lacks a method of chat_worker.plugins.backend",
    "encoder_unknown": "there is no encoder {backend!r}",
    "openvino_failed": "it failed while it was compiled or first computed, see the log",
    "openvino_no_device": "OpenVINO has no device {device!r} here; it lists {listed}",
    "openvino_refuses": "the model does not run on OpenVINO: {detail}",
    "loaded_but_fails": "the model was loaded but does not run",
    "static_table_unknown": "it has no table of vectors that fits its tokenizer",
    "score_weights_missing": "the model's files lack weights that scores need",
    "no_tokenizer": "the model has no tokenizer.json",
    "too_many_outputs": "the model has {n_outputs} outputs; a reranker has one",
    "activation_unknown": "the model's scores go through {name!r}, which is not offered here",
    "embedding_file_refused": "the file is damaged, or of a kind that this llama.cpp does not know",
    "embedding_context_not_made": "its context could not be made",
    "pooling_fixed": "it has no pooling that EMBEDDING_POOLING could replace",
    "no_yes_and_no": 'its vocabulary lacks the words "yes" and "no", with which it would answer',
    "pooling_unknown": "the file does not say how the vectors of its tokens become one",
    "pairs_unknown": "the model's tokenizer joins two texts in an unknown way",
    "special_tokens_unknown": "the model's tokenizer adds its special tokens in an unknown way",
    "no_plain_text": "the model has no tokenizer.json, or takes no plain text",
    "dimension_unknown": "the model does not say how long its vectors are",
    "files_too_slow": "its files could not be read in {limit_s} s",
    "scan_failed": "the models folder could not be looked at",
    "scan_not_ended": "the models folder is still being read",
    "load_too_slow": "it took longer than {limit_s} s",
    "model_broken": "the model {model!r} cannot be loaded: {detail}",
    "load_failed": "the model could not be loaded: {why}",
    "load_process_ended": "its process ended while loading ({how})",
    "backend_refused": "the backend refused it ({kind}, see the log)",
    "files_unreadable": "its files could not be read (error {number})",
    "lack_memory": "the model could not be loaded: not enough memory or page file",
    "lack_gpu_memory": "the model could not be loaded: not enough memory on the GPU",
    "killed_for_memory": (
        "the model could not be loaded: its process was killed, as systems do where there is not "
        "enough memory or page file"
    ),
    "with_arithmetic": "{failure}; it needs about {need}, {available} are available; {loaded}",
    "does_not_fit": "the model does not fit: it needs about {need}, and {reason}; {loaded}",
    "need_range": "{wanted} ({least} at the least)",
    "over_limit": "all models of this worker together may take {limit}",
    "held_by_pins": "pinned models hold the room for it ({models})",
    "machine_memory": (
        "{available} are available, of which {headroom} stay free for everything else"
    ),
    "container_memory": (
        "{available} are available below its container's limit of {limit}, of which {headroom} "
        "stay free"
    ),
    "models_loaded": "models loaded now: {models}",
    "no_models_loaded": "models loaded now: none",
    "crash_loop": "the model's process crashed {times} times within {window_s} s, last with {how}",
}
