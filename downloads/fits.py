"""Whether a model fits into this machine's memory, computed before it is downloaded.

The estimates are those by which workers reserve memory for a load. For GGUF files they need the
header of one variant, since the others of the repository differ in the size of their weights only.
For a folder they need its small files and the headers of its weights.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from msgspec.structs import replace

from chat_worker.discovery import ChatModelScan
from chat_worker.headers import OTHER_ARCHITECTURES, takes_q8_cache
from chat_worker.load_options import ChatLoadOptions, smaller_specs
from chat_worker.load_specs import load_spec
from chat_worker.memory_estimate import need_of_gguf
from chat_worker.model_dims import REPACKED_ROWS, ModelDims, shape_of_headers
from chat_worker.settings import ChatSettings
from common.error_texts import ErrorText
from common.errors import InvalidRequest
from downloads.listing import RemoteFile
from downloads.names import safe_path, within
from downloads.remote_file import RemoteBytes
from downloads.variants import FOLDER, Variant
from downloads.web import Web
from embed_worker import memory_estimate as embed_estimate
from embed_worker.discovery import EmbedModelScan
from embed_worker.headers import POOLING_TYPES, Said
from embed_worker.library import LLAMA_CPP
from embed_worker.pipe_messages import MAX_LLAMA_TOKENS
from embed_worker.settings import EmbedSettings
from worker_runtime.machine import read_machine
from worker_runtime.memory.budget import MemoryBudget
from worker_runtime.memory.budget_now import budget_now
from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.folders import is_causal_lm_folder
from worker_runtime.model_files.gguf import GgufHeader, gguf_header_in
from worker_runtime.model_files.models_toml import NO_OPTIONS

Verdict = Literal["fits", "fits_reduced", "does_not_fit"]
Capability = Literal["chat", "embed"]

# Files of a folder that say what the model is; vocabularies are larger.
SMALL_BYTES = 1 << 20
# Different models in one repository; the header of one file of each is read.
MAX_FAMILIES = 8
MAX_HEADER_BYTES = 16 << 20
# The names of variants whose embedding llama.cpp copies for the output layer.
_REPACKED = ("Q4_0", "Q4_K", "Q2_K", "IQ4_NL", "MXFP4")


class Fit(msgspec.Struct, frozen=True):
    """
    Args:
        need_bytes: what a load reserves as configured.
        room_bytes: what can be reserved now; None: the system does not report it.
        slots: requests at a time, each with a context of `context_tokens`.
        reductions: what it gives up to fit.
    """

    variant: str
    capability: Capability
    size_bytes: int
    need_bytes: int
    room_bytes: int | None
    verdict: Verdict
    slots: int = 0
    context_tokens: int = 0
    reductions: tuple[str, ...] = ()


def fits_of(variants: Sequence[Variant], web: Web, headers: dict[str, str]) -> tuple[Fit, ...]:
    """Return the fit of each variant, in their order.

    Raises:
        InvalidRequest: it is a model that would not run here.
        ServingError: the hub fails.
    """
    families: dict[str, list[Variant]] = {}
    for variant in variants:
        families.setdefault(FOLDER if variant.is_folder else variant.family, []).append(variant)
    if len(families) > MAX_FAMILIES:
        raise InvalidRequest(
            ErrorText("pull_many_models", known=", ".join(list(families)[:MAX_FAMILIES])),
            param="model",
        )
    try:
        found = [fit for family in families.values() for fit in _of_family(family, web, headers)]
    except InvalidModelFile as error:
        raise InvalidRequest(
            ErrorText("pull_does_not_run", reason=str(error)), param="model"
        ) from error
    return tuple(sorted(found, key=lambda fit: fit.size_bytes))


def _of_family(variants: Sequence[Variant], web: Web, headers: dict[str, str]) -> list[Fit]:
    """The fits of the variants of one model, of which the header of the first is read."""
    if variants[0].is_folder:
        return [_of_folder(variants[0], web, headers)]
    first = variants[0].files[0]
    remote = RemoteBytes(web, first, headers)
    header = gguf_header_in(remote, first.size_bytes, MAX_HEADER_BYTES)  # type: ignore[arg-type]
    if header.pooling_type in POOLING_TYPES:
        return list(_of_embedders(variants, header))
    if OTHER_ARCHITECTURES.search(header.architecture) or not header.vocabulary_size:
        raise InvalidModelFile(f"models of kind {header.architecture[:32]!r} do not chat")
    return list(_of_chat_models(variants, header))


def _of_chat_models(variants: Sequence[Variant], header: GgufHeader) -> Iterator[Fit]:
    settings = ChatSettings()
    budget = budget_now(settings.policy(), read_machine())
    spec = load_spec(settings, NO_OPTIONS, "", "llama.cpp", Path("remote.gguf"))
    _, known = shape_of_headers([header])
    trained = known.n_ctx_train or settings.request_tokens
    context = min(settings.request_tokens, trained)
    specs = [spec]
    if settings.load_ladder:
        specs += smaller_specs(spec, context)
        if takes_q8_cache(header):
            specs.append(replace(specs[-1], kv_type="q8_0"))
    for variant in variants:
        dims = _with_weights(known, variant, variants[0].size_bytes)
        needs = [need_of_gguf(each, dims).total for each in specs]
        reductions = ("a smaller batch, cache or context",)
        given_up = [(), *[reductions] * (len(needs) - 1)]
        yield _fit(variant, "chat", needs, given_up, budget, settings.parallel, context)


def _with_weights(known: ModelDims, variant: Variant, known_bytes: int) -> ModelDims:
    """The dimensions of a variant, from those of another with files of `known_bytes`."""
    is_copied = (
        known.is_tied
        and known.n_vocab % REPACKED_ROWS == 0
        and variant.name.removeprefix("UD-").startswith(_REPACKED)
    )
    per_value = known.n_bytes / max(known.n_values, 1) * variant.size_bytes / max(known_bytes, 1)
    return replace(
        known,
        n_bytes=variant.size_bytes,
        output_copy_bytes=int(known.table_values * per_value) if is_copied else 0,
    )


def _of_embedders(variants: Sequence[Variant], header: GgufHeader) -> Iterator[Fit]:
    settings = EmbedSettings()
    budget = budget_now(settings.policy(), read_machine())
    spec = settings.load_spec(
        backend=LLAMA_CPP, path="remote.gguf", model_id="", fingerprint="",
        torch_fingerprint="", truncate_dim=0,
    )  # fmt: skip
    context = min(header.context_length, MAX_LLAMA_TOKENS)
    for variant in variants:
        said = Said(context_length=context, size_bytes=variant.size_bytes)
        needs = [embed_estimate.memory_need(spec, said).total]
        yield _fit(variant, "embed", needs, [()], budget)


def _of_folder(variant: Variant, web: Web, headers: dict[str, str]) -> Fit:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        for file in variant.files:
            _put_head(file, within(folder, safe_path(file.path)), web, headers)
        if is_causal_lm_folder(folder):
            return _of_chat_folder(variant, folder)
        return _of_encoder(variant, folder)


def _put_head(file: RemoteFile, place: Path, web: Web, headers: dict[str, str]) -> None:
    """Write a small file whole; of weights the header, in a file that is as long as they are."""
    is_weights = file.name.endswith(".safetensors")
    if file.size_bytes > SMALL_BYTES and not is_weights:
        return
    n_bytes = file.size_bytes
    if is_weights:
        length = web.part(file.address, headers, 0, 8)
        n_bytes = min(8 + int.from_bytes(length, "little"), MAX_HEADER_BYTES, file.size_bytes)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("wb") as target:
        if n_bytes:
            target.write(web.part(file.address, headers, 0, n_bytes))
        target.truncate(file.size_bytes)


def _of_chat_folder(variant: Variant, folder: Path) -> Fit:
    settings = ChatSettings(model_path=folder, backend="transformers")
    scan = ChatModelScan(settings)
    entry = next(found for found in scan().entries if found.path == folder)
    if entry.broken:
        raise InvalidModelFile(entry.broken)
    options = ChatLoadOptions(scan, settings)(entry)
    budget = budget_now(settings.policy(), read_machine())
    needs, reductions = [o.need.total for o in options], [o.reductions for o in options]
    slots, context = settings.parallel, entry.context_length
    return _fit(variant, "chat", needs, reductions, budget, slots, context)


def _of_encoder(variant: Variant, folder: Path) -> Fit:
    settings = EmbedSettings()
    entry = EmbedModelScan(settings).entry_at(folder)
    if entry is None:
        raise InvalidModelFile("it is neither a model that chats nor one that embeds texts")
    if entry.broken:
        raise InvalidModelFile(entry.broken)
    options = embed_estimate.load_options(entry)
    budget = budget_now(settings.policy(), read_machine())
    needs, reductions = [o.need.total for o in options], [o.reductions for o in options]
    return _fit(variant, "embed", needs, reductions, budget)


def _fit(
    variant: Variant,
    capability: Capability,
    needs: Sequence[int],
    reductions: Sequence[tuple[str, ...]],
    budget: MemoryBudget,
    slots: int = 0,
    context: int = 0,
) -> Fit:
    """The fit by the first of the load options that fits.

    Args:
        needs: bytes that each option needs, the first as configured.
        reductions: what each option gives up.
    """
    taken = next((n for n, need in enumerate(needs) if budget.fits(need)), None)
    verdict: Verdict = "does_not_fit"
    if taken is not None:
        verdict = "fits_reduced" if reductions[taken] else "fits"
    return Fit(
        variant=variant.name,
        capability=capability,
        size_bytes=variant.size_bytes,
        need_bytes=needs[0],
        room_bytes=budget.free_bytes(),
        verdict=verdict,
        slots=slots,
        context_tokens=context,
        reductions=reductions[taken] if taken else (),
    )
