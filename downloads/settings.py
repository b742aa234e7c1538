"""The settings of downloads; the only place of this package that reads the environment."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from common.settings import SharedSettings, models_folder


class DownloadSettings(SharedSettings):
    models_dir: Path = Field(
        default_factory=models_folder,
        validation_alias="MODELS_DIR",
        description="Folder into which models are downloaded.",
    )
    hugging_face: str = Field(
        default="https://huggingface.co",
        validation_alias="HF_ENDPOINT",
        description="Address of the Hugging Face hub, or of a mirror with the same API.",
    )
    hugging_face_token: SecretStr = Field(
        default=SecretStr(""),
        validation_alias="HF_TOKEN",
        description="Access token for gated and private repositories of that hub.",
    )
    modelscope: str = Field(
        default="https://modelscope.cn",
        validation_alias="MODELSCOPE_ENDPOINT",
        description="Address of ModelScope.",
    )
    ollama: str = Field(
        default="https://registry.ollama.ai",
        validation_alias="OLLAMA_REGISTRY",
        description="Address of the registry of Ollama's models.",
    )
    connections: int = Field(
        default=4,
        ge=1,
        le=16,
        validation_alias="PULL_CONNECTIONS",
        description="Number of connections that download the parts of a model side by side.",
    )
    stall_s: float = Field(
        default=30.0,
        gt=0,
        validation_alias="PULL_STALL_SECONDS",
        description="Seconds without data after which a part of a download is asked for again.",
    )
    private_addresses: bool = Field(
        default=False,
        validation_alias="PULL_PRIVATE_ADDRESSES",
        description=(
            "1: models may also come from addresses of private networks, and without TLS. The hubs "
            "that the settings name may always be there."
        ),
    )

    @field_validator("hugging_face", "modelscope", "ollama")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if not value.startswith(("https://", "http://")):
            raise ValueError(f"{value} is no address: it must begin with https:// or http://")
        return value.rstrip("/")
