"""Lists the files of a repository on the Hugging Face hub, through its own library."""

from typing import cast
from urllib.parse import quote

from common.error_texts import ErrorText
from common.errors import DownloadFailed, ModelNotFound, PermissionDenied
from downloads.listing import MAX_FILES, Listing, RemoteFile
from downloads.settings import DownloadSettings
from downloads.source import Source
from downloads.web import CONNECT_S, Web, nonsense, refusal, unreachable


def list_hugging_face(source: Source, settings: DownloadSettings, web: Web) -> Listing:
    """Return the files of the main branch.

    Raises:
        ServingError: there is no such repository, it needs consent or a token, or the hub fails.
    """
    # Imported here: it takes 0.4 s.
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    # The errors of the HTTP library that it uses, which depends on its version.
    network_error = cast("type[Exception]", HfHubHTTPError.__mro__[1])
    base = settings.hugging_face
    token = settings.hugging_face_token.get_secret_value() or get_token()
    hub = HfApi(endpoint=base, token=token or False)
    try:
        found = hub.model_info(source.repository, files_metadata=True, timeout=CONNECT_S)
    except GatedRepoError as error:
        raise _gated(source) from error
    except RepositoryNotFoundError as error:
        # The hub says the same of repositories that are private.
        raise ModelNotFound(
            ErrorText("hub_has_no_model", name=source.repository),
            param="model",
            suggestions=(ErrorText("set_setting", setting="HF_TOKEN"),),
        ) from error
    except HfHubHTTPError as error:
        raise refusal(error.response.status_code, base) from error
    except OfflineModeIsEnabled as error:
        raise DownloadFailed(
            ErrorText("hub_switched_off"),
            suggestions=(ErrorText("set_setting", setting="HF_HUB_OFFLINE=0"),),
        ) from error
    except network_error as error:
        raise unreachable(base) from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        # Its library takes the JSON of a reply for valid.
        raise nonsense(base) from error
    prefix = f"{base}/{source.repository}/resolve/{quote(found.sha or 'main', safe='')}/"
    files = (
        RemoteFile(
            path=one.rfilename,
            size_bytes=one.size or 0,
            address=prefix + quote(one.rfilename),
            sha256=one.lfs.sha256 if one.lfs else "",
            git_sha1="" if one.lfs else (one.blob_id or ""),
        )
        for one in (found.siblings or [])[:MAX_FILES]
        if isinstance(one.rfilename, str) and isinstance(one.size or 0, int)
    )
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return Listing(source.repository, tuple(files), headers)


def _gated(source: Source) -> PermissionDenied:
    return PermissionDenied(
        ErrorText("hub_wants_consent", name=source.repository),
        param="model",
        suggestions=(ErrorText("accept_terms"), ErrorText("set_setting", setting="HF_TOKEN")),
    )
