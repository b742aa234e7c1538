"""Texts about downloading and deleting models."""

MESSAGES = {
    # The name of a model.
    "pull_name_wrong": "{name!r} does not name a model to download",
    "pull_no_variant": "there is no {wanted} of this model; there are: {known}",
    "pull_no_file": "{repository} has no file {name}",
    "pull_nothing_here": "{name} has neither GGUF files nor safetensors",
    "pull_only_pickled": "{name} has pickled weights only, which can run code",
    "pull_many_models": "the repository has many models ({known}); name one file of it",
    "pull_is_adapter": "{name} is an adapter (LoRA): merge it into its model",
    "pull_does_not_run": "this model does not run here: {reason}",
    "pull_nothing_fits": (
        "no variant fits: the smallest, {variant}, needs about {need}, and {room} are free for it"
    ),
    # The hub.
    "hub_has_no_model": "the hub has no model {name}",
    "hub_has_no_file": "{host} has no such file",
    "hub_wants_consent": "{name} is given only to those who accept its terms",
    "hub_denies": "{host} denies access",
    "hub_is_busy": "{host} refuses for now: too many requests",
    "hub_fails": "{host} fails with status {status}",
    "hub_unreachable": "{host} cannot be reached, or stopped answering",
    "hub_switched_off": "HF_HUB_OFFLINE keeps this machine from asking the hub",
    "hub_misdirects": "{host} redirects to what is no address, or too often",
    "hub_answers_nonsense": "{host} does not answer as a hub does",
    "pull_needs_https": "{host} is to be asked without TLS",
    "pull_address_private": "{host} has an address within a private network",
    # Files.
    "pull_file_name_unsafe": "the file name {name!r} is not taken: it may mean another place",
    "pull_target_is_link": "{name} is a link, or behind a link that leaves the models folder",
    "pull_name_taken": "the models folder already has another {name}",
    "pull_file_changed": "{name} was changed on the hub meanwhile",
    "pull_checksum_wrong": "{name} did not arrive as the hub has it: its checksum differs",
    "pull_disk_full": "the disk has {free} free; the download takes {need} more",
    "pull_disk_is_full": "the disk is full",
    "models_folder_not_written": "the models folder cannot be written: {reason}",
    # The server.
    "pull_cancelled": "the download was cancelled; what has arrived stays",
    "pull_runs_already": "this model is being downloaded already",
    "pulls_are_off": "this gateway neither downloads nor deletes models",
    "too_many_pulls": "{n} models are being downloaded already",
    "pull_not_running": "{name!r} is not being downloaded",
    "pull_ended": "the download ended without a result; the log has the reason",
    "delete_built_in": "{model} is built in and is not deleted",
    "delete_outside": "{model} is not in the models folder",
    "delete_failed": "{model} cannot be deleted: {reason}",
    "model_in_use": "{model} is used by {n} requests",
    # What may help.
    "pull_name_forms": (
        "write hf.co/org/repo:Q4_K_M, org/repo, modelscope.cn/org/repo, "
        "ollama.com/library/name:tag or https://…/file.gguf"
    ),
    "pull_other_repository": "look for a repository with GGUF in its name",
    "accept_terms": "accept the terms on the page of the model",
    "check_network": "check the network, and the settings of a proxy (HTTPS_PROXY)",
    "free_disk_space": "delete what is not needed: DELETE /v1/models/{{id}}, y26hkx rm",
    "pull_again": "download it again",
    "delete_first": "delete that one first: DELETE /v1/models/{{id}}, y26hkx rm",
    "delete_by_hand": "delete it by hand",
    "pull_by_command": "use y26hkx pull and y26hkx rm on the machine with the models folder",
    "force_delete": "delete it all the same: force=true ends the requests",
}
