"""What dashboards built on the earlier server look for."""

OLD_MEMORY = {
    "current_usage_percent",
    "available_gb",
    "process_memory_gb",
    "memory_trend",
    "leak_detected",
}
OLD_METRICS = (
    "y26hkx_requests_total",
    "y26hkx_chat_requests_total",
    "y26hkx_embeddings_requests_total",
    "y26hkx_errors_total",
    "y26hkx_chat_latency_sum_seconds",
    "y26hkx_chat_latency_max_seconds",
    "y26hkx_model_loaded_timestamp",
    "y26hkx_prompt_tokens_total",
    "y26hkx_completion_tokens_total",
    "y26hkx_total_tokens_total",
    "y26hkx_backend_load_failures_total",
    "y26hkx_embedding_model_load_seconds_sum",
    "y26hkx_embedding_model_load_seconds_count",
    "y26hkx_active_embedding_models",
)
