"""Texts about downloading and deleting models, in Traditional Chinese."""

MESSAGES = {
    # The name of a model.
    "pull_name_wrong": "{name!r} 不是可下載的模型名稱",
    "pull_no_variant": "這個模型沒有 {wanted}；可選的有：{known}",
    "pull_no_file": "{repository} 沒有檔案 {name}",
    "pull_nothing_here": "{name} 既沒有 GGUF 檔，也沒有 safetensors",
    "pull_only_pickled": "{name} 只有 pickle 格式的權重，可能執行程式碼",
    "pull_many_models": "這個儲存庫有許多模型 ({known})；請指定其中一個檔案",
    "pull_is_adapter": "{name} 是轉接器 (LoRA)：請先合併到其模型",
    "pull_does_not_run": "這個模型無法在此執行：{reason}",
    "pull_nothing_fits": "沒有放得下的版本：最小的 {variant} 約需 {need}，可用的有 {room}",
    # The hub.
    "hub_has_no_model": "模型站沒有模型 {name}",
    "hub_has_no_file": "{host} 沒有這個檔案",
    "hub_wants_consent": "{name} 只提供給接受其條款的人",
    "hub_denies": "{host} 拒絕存取",
    "hub_is_busy": "{host} 暫時拒絕：請求過多",
    "hub_fails": "{host} 發生錯誤，狀態碼 {status}",
    "hub_unreachable": "無法連上 {host}，或它停止回應",
    "hub_switched_off": "HF_HUB_OFFLINE 讓這台機器不向模型站查詢",
    "hub_misdirects": "{host} 重新導向到無效的位址，或次數過多",
    "hub_answers_nonsense": "{host} 的回應不像模型站",
    "pull_needs_https": "{host} 沒有使用 TLS",
    "pull_address_private": "{host} 的位址在私有網路內",
    # Files.
    "pull_file_name_unsafe": "不接受檔名 {name!r}：它可能指向其他位置",
    "pull_target_is_link": "{name} 是連結，或位於通往模型資料夾之外的連結後面",
    "pull_name_taken": "模型資料夾中已有另一個 {name}",
    "pull_file_changed": "{name} 在模型站上已變更",
    "pull_checksum_wrong": "{name} 與模型站上的不同：校驗碼不符",
    "pull_disk_full": "磁碟可用空間為 {free}，下載還需要 {need}",
    "pull_disk_is_full": "磁碟已滿",
    "models_folder_not_written": "無法寫入模型資料夾：{reason}",
    # The server.
    "pull_cancelled": "下載已取消；已收到的部分會保留",
    "pull_runs_already": "這個模型正在下載",
    "pulls_are_off": "這個閘道不下載也不刪除模型",
    "too_many_pulls": "已有 {n} 個模型正在下載",
    "pull_not_running": "{name!r} 並未在下載",
    "pull_ended": "下載結束但沒有結果；原因請見記錄",
    "delete_built_in": "{model} 是內建模型，不會刪除",
    "delete_outside": "{model} 不在模型資料夾中",
    "delete_failed": "無法刪除 {model}：{reason}",
    "model_in_use": "{model} 正被 {n} 個請求使用",
    # What may help.
    "pull_name_forms": (
        "請寫 hf.co/org/repo:Q4_K_M、org/repo、modelscope.cn/org/repo、ollama.com/library/name:tag "
        "或 https://…/file.gguf"
    ),
    "pull_other_repository": "尋找名稱含 GGUF 的儲存庫",
    "accept_terms": "在模型頁面上接受條款",
    "check_network": "檢查網路與代理設定 (HTTPS_PROXY)",
    "free_disk_space": "刪除不需要的模型：DELETE /v1/models/{{id}}、y26hkx rm",
    "pull_again": "重新下載",
    "delete_first": "先刪除該模型：DELETE /v1/models/{{id}}、y26hkx rm",
    "delete_by_hand": "手動刪除",
    "pull_by_command": "在模型資料夾所在的機器上使用 y26hkx pull 與 y26hkx rm",
    "force_delete": "仍要刪除：force=true 會結束這些請求",
}
