"""Whose models are listed beside those of the models folder."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from common.settings import SharedSettings, folders_of_others, split_list

AUTO = "auto"


class SourceSettings(SharedSettings):
    model_sources: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        validation_alias="MODEL_SOURCES",
        description=(
            "Comma-separated programs whose models are listed, too, where they are: lmstudio, "
            "ollama, huggingface (its cache), or auto for all of them. Empty: none."
        ),
    )

    @field_validator("model_sources", mode="before")
    @classmethod
    def _known_sources(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        names, known = [name.lower() for name in split_list(value)], tuple(folders_of_others())
        for name in names:
            if name not in (*known, AUTO):
                raise ValueError(f"{name} is not one of {AUTO}, {', '.join(known)}")
        return known if AUTO in names else tuple(names)

    @property
    def source_folders(self) -> dict[str, list[Path]]:
        """Folders with models of other programs, by the names of these."""
        every = folders_of_others()
        return {name: places for name, places in every.items() if name in self.model_sources}
