"""Decides what is downloaded from where to where, before the first byte of weights."""

import re
from pathlib import Path, PurePosixPath

import msgspec

from common.error_texts import ErrorText
from common.errors import BackendLoadFailed, InvalidRequest
from common.sizes import mib
from downloads.fits import Capability, Fit, fits_of
from downloads.hubs import list_files
from downloads.listing import RemoteFile
from downloads.names import safe_path, within
from downloads.settings import DownloadSettings
from downloads.source import Source, parse
from downloads.variants import FOLDER, Variant, Variants, choose, variants_of
from downloads.web import Web
from worker_runtime.model_files.gguf_files import gguf_id

EMBEDDING_FOLDER = "embedding"
# Variants that take twice the memory and time of Q8_0, and answer the same.
_WHOLE = ("F32", "FP32", "F16", "FP16", "BF16")
# Names that say nothing of the model.
_NAMELESS = re.compile(r"(ggml[-_.]?)?(model|gguf|weights)?([-_.].*)?", re.IGNORECASE)


class Plan(msgspec.Struct, frozen=True):
    """
    Args:
        model: the id under which the model will be served.
        source: the repository, for messages.
        fits: the fit of each variant, the smallest first.
        variant: that which is downloaded.
        target: the path in the models folder: of a folder, or of the first file.
        left_out: sentences about files that are not taken.
    """

    model: str
    source: str
    capability: Capability
    fits: tuple[Fit, ...]
    variant: str
    size_bytes: int
    target: str
    left_out: tuple[str, ...]


class Task(msgspec.Struct, frozen=True):
    """What a plan means for files: each with its path in the models folder.

    Args:
        folder: the model's own folder, which becomes visible as a whole; None: there is none.
    """

    plan: Plan
    headers: dict[str, str]
    files: tuple[tuple[RemoteFile, PurePosixPath], ...]
    folder: PurePosixPath | None


def make_plan(name: str, settings: DownloadSettings, web: Web, *, force: bool) -> Task:
    """Find the model, and choose: what the name says, or the largest variant that fits.

    Args:
        force: choose the smallest if none fits.
    Raises:
        ServingError: with the reason why it cannot be downloaded.
    """
    source = parse(name)
    listing = list_files(source, settings, web)
    found = variants_of(listing, source)
    for file in (file for variant in found.found for file in variant.files):
        safe_path(file.path)
    wanted = "" if source.hub == "ollama" else source.variant
    variants = [choose(found.found, wanted)] if wanted else list(found.found)
    fits = fits_of(variants, web, listing.headers)
    chosen = variants[0] if len(variants) == 1 else _largest_that_fits(found, fits, force)
    return _task(source, chosen, fits, listing.headers, found.left_out, settings.models_dir)


def _largest_that_fits(variants: Variants, fits: tuple[Fit, ...], force: bool) -> Variant:
    known = {variant.name: variant for variant in variants.found}
    for verdict in ("fits", "fits_reduced"):
        fitting = [fit.variant for fit in fits if fit.verdict == verdict]
        quantized = [name for name in fitting if name not in _WHOLE]
        if fitting:
            return known[(quantized or fitting)[-1]]
    smallest = fits[0]
    if force:
        return known[smallest.variant]
    raise BackendLoadFailed(
        ErrorText(
            "pull_nothing_fits",
            variant=smallest.variant,
            need=mib(smallest.need_bytes),
            room=mib(smallest.room_bytes or 0),
        ),
        param="model",
        suggestions=(ErrorText("use_smaller_model"), ErrorText("close_programs")),
    )


def _task(
    source: Source,
    variant: Variant,
    fits: tuple[Fit, ...],
    headers: dict[str, str],
    left_out: tuple[str, ...],
    models_dir: Path,
) -> Task:
    repository = source.repository.rpartition("/")[2]
    capability = next(fit.capability for fit in fits if fit.variant == variant.name)
    if variant.name == FOLDER:
        folder = safe_path(repository)
        files = tuple((file, folder / safe_path(file.path)) for file in variant.files)
        model, target = repository, folder
    else:
        parent = PurePosixPath(EMBEDDING_FOLDER if capability == "embed" else ".")
        names = [_file_name(repository, safe_path(file.path)) for file in variant.files]
        files = tuple((f, parent / safe_path(n)) for f, n in zip(variant.files, names, strict=True))
        model, target, folder = gguf_id(Path(names[0])), files[0][1], None
    for _, path in files:
        within(models_dir, path)
    _require_different(files)
    plan = Plan(
        model=model,
        source=source.title,
        capability=capability,
        fits=fits,
        variant=variant.name,
        size_bytes=variant.size_bytes,
        target=str(target),
        left_out=left_out,
    )
    return Task(plan, headers, files, folder)


def _file_name(repository: str, path: PurePosixPath) -> str:
    stem = gguf_id(Path(path.name))
    is_nameless = _NAMELESS.fullmatch(stem) and not repository.lower().endswith(".gguf")
    # The ending is what scans look for.
    name = re.sub(r"\.gguf$", ".gguf", path.name, flags=re.IGNORECASE)
    return f"{repository}-{name}" if is_nameless else name


def _require_different(files: tuple[tuple[RemoteFile, PurePosixPath], ...]) -> None:
    """Refuse paths that Windows and macOS take for the same."""
    paths = {str(path).casefold() for _, path in files}
    if len(paths) != len(files):
        raise InvalidRequest(
            ErrorText("pull_file_name_unsafe", name=str(files[0][1])), param="model"
        )
