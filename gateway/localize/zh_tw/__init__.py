"""Traditional Chinese: one file for each of those in `common/error_texts/`."""

from gateway.localize.zh_tw import answers, downloads, requests, service, suggestions

TAG = "zh-TW"
# A client that accepts one of these tags reads this language.
READERS = ("zh-tw", "zh-hant", "zh-hk", "zh-mo")

# Around messages that come from elsewhere and have no translation, by the code of the error.
CODES = {
    "internal_error": "伺服器內部錯誤：{text}",
    "invalid_request": "請求內容有誤：{text}",
    "context_length_exceeded": "輸入超過模型的上下文長度：{text}",
    "unsupported_parameter": "不支援的參數：{text}",
    "request_too_large": "請求內容過大：{text}",
    "unsupported_encoding": "不接受壓縮的內容：{text}",
    "content_filter": "內容遭此伺服器的規則拒絕：{text}",
    "invalid_api_key": "API 金鑰遺漏或不正確：{text}",
    "permission_denied": "不允許這個來源的呼叫：{text}",
    "rate_limit_exceeded": "請求過於頻繁，請稍後再試：{text}",
    "insufficient_quota": "已超過配額：{text}",
    "model_not_found": "找不到指定的模型：{text}",
    "batch_not_found": "找不到指定的檔案或批次：{text}",
    "key_not_found": "找不到指定的金鑰：{text}",
    "response_not_found": "找不到指定的回應或對話：{text}",
    "previous_response_not_found": "找不到要接續的內容：{text}",
    "overloaded": "伺服器忙碌中，請稍後再試：{text}",
    "model_in_use": "模型使用中：{text}",
    "download_failed": "下載失敗：{text}",
    "disk_full": "磁碟空間不足：{text}",
    "BACKEND_LOAD_FAILED": "模型/後端載入失敗：{text}",
    "not_ready": "服務尚未就緒，請稍後再試：{text}",
    "worker_lost": "工作行程中斷，請重新送出請求：{text}",
    "timeout": "處理逾時：{text}",
    "cancelled": "請求已取消：{text}",
    "backend_failure": "後端發生錯誤：{text}",
}

MESSAGES = {
    **requests.MESSAGES,
    **answers.MESSAGES,
    **service.MESSAGES,
    **downloads.MESSAGES,
    **suggestions.MESSAGES,
}
