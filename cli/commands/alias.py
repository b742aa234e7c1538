"""`y26hkx alias`: other names of models, in models.toml. The rest of that file stays as it is."""

import argparse
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from cli.commands.failure import CommandError
from cli.commands.models import here
from cli.commands.printing import table, write, write_json
from cli.settings import StackSettings
from common.atomic_file import replace_file
from common.model_ids import folded_id, same_model_id
from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.foreign_files import read_at_most
from worker_runtime.model_files.models_toml import FILE, MAX_BYTES, parse

MODE = 0o644


def alias(chosen: argparse.Namespace) -> int:
    """List aliases, set one or remove one."""
    file = StackSettings.read({}).models_dir / FILE
    document = _document(file)
    if chosen.remove:
        if not _removed(document, chosen.remove):
            raise CommandError(f"there is no alias {chosen.remove!r}", ["y26hkx alias lists them"])
        _save(file, document)
    elif chosen.name and chosen.model:
        model = _model(chosen.name, chosen.model)
        _removed(document, chosen.name)
        _add(document, chosen.name, model)
        _save(file, document)
    elif chosen.name:
        raise CommandError("of which model?", [f"y26hkx alias {chosen.name} MODEL"])
    _print(_listed(document), as_json=chosen.json)
    return 0


def _document(file: Path) -> tomlkit.TOMLDocument:
    try:
        content = read_at_most(file, MAX_BYTES)
        parse(content)
        return tomlkit.parse(content)
    except FileNotFoundError:
        return tomlkit.document()
    except (InvalidModelFile, TOMLKitError, OSError) as error:
        raise CommandError(f"{file} cannot be changed: {error}") from error


def _model(name: str, wanted: str) -> str:
    """The id of the model here that is meant.

    Raises:
        CommandError: there is none, or the alias is an id.
    """
    ids = [model.id for model in here()]
    if any(same_model_id(name, id) for id in ids):
        raise CommandError(f"{name!r} is the id of a model")
    found = [id for id in ids if same_model_id(wanted, id)]
    if not found:
        raise CommandError(f"there is no model {wanted!r} here", ["y26hkx ls lists them"])
    return found[0]


def _tables(document: tomlkit.TOMLDocument) -> dict[str, Any]:
    models: dict[str, Any] = document.get("models", {})
    return models


def _removed(document: tomlkit.TOMLDocument, name: str) -> bool:
    for options in _tables(document).values():
        for known in list(options.get("aliases", ())):
            if folded_id(known) == folded_id(name):
                options["aliases"].remove(known)
                if not options["aliases"]:
                    del options["aliases"]
                return True
    return False


def _add(document: tomlkit.TOMLDocument, name: str, model: str) -> None:
    models = document.setdefault("models", tomlkit.table(is_super_table=True))
    key = next((id for id in models if same_model_id(id, model)), None)
    if key is None:
        key = model
        models[key] = {}
    models[key].setdefault("aliases", tomlkit.array()).append(name)


def _save(file: Path, document: tomlkit.TOMLDocument) -> None:
    content = tomlkit.dumps(document).encode()
    try:
        parse(content)
        file.parent.mkdir(parents=True, exist_ok=True)
        # A server of another user may read it.
        mode = file.stat().st_mode if file.exists() else MODE
        replace_file(file, content)
        file.chmod(mode)
    except InvalidModelFile as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}") from error


def _listed(document: tomlkit.TOMLDocument) -> dict[str, str]:
    return {
        str(name): str(model)
        for model, options in _tables(document).items()
        for name in options.get("aliases", ())
    }


def _print(aliases: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        write_json(aliases)
    elif aliases:
        table(["alias", "model"], aliases.items())
    else:
        write("there are no aliases; y26hkx alias NAME MODEL makes one")
