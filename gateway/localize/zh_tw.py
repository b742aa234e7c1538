"""Traditional Chinese: by an error's code, by the reason and numbers of a lack of memory, and by
the English text of a suggestion, where {} stands for what changes.
"""

CODES = {
    "internal_error": "伺服器內部錯誤",
    "invalid_request": "請求內容有誤",
    "context_length_exceeded": "輸入超過模型的上下文長度",
    "unsupported_parameter": "不支援的參數",
    "request_too_large": "請求內容過大",
    "invalid_api_key": "API 金鑰遺漏或不正確",
    "permission_denied": "不允許這個來源的呼叫",
    "rate_limit_exceeded": "請求過於頻繁，請稍後再試",
    "model_not_found": "找不到指定的模型",
    "overloaded": "伺服器忙碌中，請稍後再試",
    "BACKEND_LOAD_FAILED": "模型/後端載入失敗",
    "not_ready": "服務尚未就緒，請稍後再試",
    "worker_lost": "工作行程中斷，請重新送出請求",
    "timeout": "處理逾時",
    "cancelled": "請求已取消",
    "backend_failure": "後端發生錯誤",
    # Of HTTP itself.
    "not_found": "找不到這個路徑",
    "method_not_allowed": "這個路徑不接受此方法",
    "request_timeout": "請求未在時限內送達",
    "http_error": "HTTP 請求有誤",
}

MEMORY = "模型/後端載入失敗 (內存或分頁檔不足)"
REASONS = {
    "memory": MEMORY,
    "page_file": MEMORY,
    "machine_memory": MEMORY,
    "gpu_memory": "模型/後端載入失敗 (顯示卡記憶體不足)",
    "killed": f"{MEMORY}，行程已被作業系統終止",
    "over_limit": f"{MEMORY}，超過本服務全部模型的記憶體上限",
    "held_by_pins": f"{MEMORY}，空間由已釘選的模型佔用",
}
# In this order, after the message.
NUMBERS = {
    "needed_bytes": "需要約 {}",
    "least_bytes": "最少 {}",
    "available_bytes": "可用 {}",
    "headroom_bytes": "須保留 {}",
    "limit_bytes": "上限 {}",
    "held_bytes": "本服務的其他模型佔用 {}",
    "others_booked_bytes": "其他服務佔用 {}",
}
HOLDERS = "已載入的模型：{}"
PINNED = "已釘選"

SUGGESTIONS = {
    "enlarge the page file to 16 GB or more (System > Advanced > Performance > Virtual memory)": (
        "增大 Pagefile 至 >=16GB"
    ),
    "close other programs": "關閉其他程式",
    "close other programs or add swap space": "關閉其他程式，或增加置換空間 (swap)",
    "close other programs that use the GPU": "關閉其他使用顯示卡的程式",
    "use llama.cpp with a Q4_K_M GGUF file (MODEL_BACKEND=llama.cpp)": (
        "改用 llama.cpp 與 Q4_K_M 的 GGUF 檔 (MODEL_BACKEND=llama.cpp)"
    ),
    "load it in 4 bits (MODEL_QUANTIZATION=4bit)": "以 4 位元量化載入 (MODEL_QUANTIZATION=4bit)",
    "switch compilation off (COMPILE_MODEL=0)": "關閉編譯 (COMPILE_MODEL=0)",
    "use a smaller or a more strongly quantized GGUF file, such as Q4_K_M": (
        "改用較小或量化程度較高的 GGUF 檔，例如 Q4_K_M"
    ),
    "use a smaller or a more strongly quantized model": "改用較小或量化程度較高的模型",
    "use a smaller model": "改用較小的模型",
    "lower MAX_INPUT_TOKENS": "調低 MAX_INPUT_TOKENS",
    "lower MAX_INPUT_TOKENS or LLAMA_CTX": "調低 MAX_INPUT_TOKENS 或 LLAMA_CTX",
    "load it all the same with MEMORY_CHECK=off": "設定 MEMORY_CHECK=off，仍然載入",
    "raise MODEL_MEMORY_LIMIT_GB": "調高 MODEL_MEMORY_LIMIT_GB",
    "raise EMBEDDING_MEMORY_LIMIT_GB": "調高 EMBEDDING_MEMORY_LIMIT_GB",
    "unload {}: POST /v1/models/unload": "卸載 {}：POST /v1/models/unload",
    "use the model {}": "改用模型 {}",
    "download the model's files again": "重新下載模型檔案",
    "download the files again": "重新下載這些檔案",
    "download the file again": "重新下載這個檔案",
    "put a model into the models folder and rescan it": "將模型放入模型資料夾，再重新掃描",
    "wait a moment: a worker is starting or restarting": "請稍候：工作行程正在啟動或重新啟動",
    "send it as Authorization: Bearer <key>, or as x-api-key: <key>": (
        "以 Authorization: Bearer <key> 或 x-api-key: <key> 送出金鑰"
    ),
    "list it in CORS_ORIGINS": "將該來源加入 CORS_ORIGINS",
    "known are: {}": "可用的參數：{}",
    "shorten the input": "縮短輸入",
    "shorten or split the input": "縮短或分割輸入",
    "shorten or split the document": "縮短或分割文件",
    "shorten the query": "縮短查詢",
    "let it be cut: truncate end or start": "允許截斷：truncate 設為 end 或 start",
    "raise LLAMA_CTX and MAX_INPUT_TOKENS": "調高 LLAMA_CTX 與 MAX_INPUT_TOKENS",
    "send less": "減少送出的內容",
    'let the oldest items go: truncation "auto"': '允許捨棄最舊的項目：truncation 設為 "auto"',
    "send the whole conversation in input": "在 input 中送出完整對話",
    "send the whole conversation in messages": "在 messages 中送出完整對話",
    "send the item itself": "直接送出該項目本身",
    "send the content as text": "以文字送出內容",
    "send the prompt as a string": "以字串送出提示",
    "send a plain prompt to /v1/completions": "將純文字提示送到 /v1/completions",
    "send it to /v1/rerank or /v1/score": "送到 /v1/rerank 或 /v1/score",
    "use an embedding model": "改用嵌入模型",
    "ask /v1/embeddings": "改用 /v1/embeddings",
    "send the text: other models' token ids mean nothing to this one": (
        "直接送出文字：其他模型的 token id 不適用於這個模型"
    ),
    "take the ids from /tokenize": "使用 /tokenize 回傳的 id",
    "in LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False)": (
        "在 LangChain 中使用 OpenAIEmbeddings(check_embedding_ctx_length=False)"
    ),
    "ask a chat endpoint, such as /v1/chat/completions": (
        "改用聊天端點，例如 /v1/chat/completions"
    ),
    "leave dimensions out": "不要指定 dimensions",
    "use a model that declares truncate_dim": "改用宣告了 truncate_dim 的模型",
    "leave that keyword out": "移除該關鍵字",
    "use another keyword that llguidance supports": "改用 llguidance 支援的其他關鍵字",
    "make it simpler": "簡化它",
    "bound what repeats": "限制重複的次數",
    "let tool_choice be none": "將 tool_choice 設為 none",
    "offer it as a function and run it yourself": "以函式形式提供，並自行執行",
    "offer a tool with an input_schema, and run it yourself": (
        "提供具有 input_schema 的工具，並自行執行"
    ),
    "offer their tools in tools, and call them yourself": "將其工具列在 tools 中，並自行呼叫",
    "ask for the wanted beginning in the user's message": "在使用者訊息中要求所需的開頭",
    "use a GGUF of the model with MODEL_BACKEND=llama.cpp": (
        "改用該模型的 GGUF 檔，並設定 MODEL_BACKEND=llama.cpp"
    ),
    "use a model of another backend": "改用其他後端的模型",
    "install one with an entry point in the group {}": "安裝一個提供 {} 進入點的後端",
    "install it: {}": "安裝：{}",
    "save the tokenizer again with save_pretrained": "以 save_pretrained 重新儲存 tokenizer",
    "set COMPILE_MODEL=0": "設定 COMPILE_MODEL=0",
    "set MODEL_QUANTIZATION=none": "設定 MODEL_QUANTIZATION=none",
    "set EMBEDDING_BACKEND=auto, which runs it on torch": (
        "設定 EMBEDDING_BACKEND=auto，改由 torch 執行"
    ),
    "update llama-cpp-python": "更新 llama-cpp-python",
    "update transformers": "更新 transformers",
    "start the other server": "啟動另一台伺服器",
    "{} in the file of remote models": "檢查遠端模型設定檔：{}",
    "use the prompt {}": "改用提示 {}",
    "use {}": "改用 {}",
}
