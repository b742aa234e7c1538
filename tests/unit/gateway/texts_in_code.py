"""What the code says to clients: every suggestion and reason that its source can produce."""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("common", "gateway", "worker_runtime", "chat_worker", "embed_worker", "simple")
# What stands for the changing part of an f-string.
FILLED = "X"


def suggestions() -> set[str]:
    """The texts that are given as `suggestions=`, wherever in the module they are written."""
    found: set[str] = set()
    for tree in _modules():
        sources = _Sources(tree)
        for call in ast.walk(tree):
            for keyword in getattr(call, "keywords", ()):
                if keyword.arg == "suggestions":
                    found |= set(sources.texts(keyword.value))
    return found


def reasons() -> set[str]:
    """Values of `reason` in errors' metadata, written there or through a name."""
    found: set[str] = set()
    for tree in _modules():
        sources = _Sources(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "metadata":
                for written in ast.walk(node.value):
                    if isinstance(written, ast.Dict):
                        for key, value in zip(written.keys, written.values, strict=True):
                            if isinstance(key, ast.Constant) and key.value == "reason":
                                found |= set(sources.texts(value))
    return found


def _modules() -> Iterator[ast.Module]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "_pb2" not in path.name and "localize" not in path.parts:
                yield ast.parse(path.read_text(encoding="utf-8"))


class _Sources:
    """Follows names, parameters and calls within one module to the strings that they stand for."""

    def __init__(self, tree: ast.Module) -> None:
        self._functions = {n.name: n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
        self._calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
        self._values: dict[str, list[ast.expr]] = {}
        for node in ast.walk(tree):
            self._note(node)
        self._seen: set[int] = set()

    def texts(self, node: ast.AST) -> Iterator[str]:
        if id(node) in self._seen:
            return
        self._seen.add(id(node))
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            written = (p.value if isinstance(p, ast.Constant) else FILLED for p in node.values)
            yield "".join(map(str, written))
        for inner in self._stands_for(node):
            yield from self.texts(inner)

    def _stands_for(self, node: ast.AST) -> Sequence[ast.AST]:
        match node:
            case ast.Name(id=name):
                return self._values.get(name, [])
            case ast.Call(func=ast.Name(id="tuple"), args=parts):
                return parts
            case ast.Call(func=ast.Name(id=name)):
                return self._returned(name)
            case ast.Subscript(value=ast.Call(func=ast.Name(id=name)), slice=ast.Constant(int(at))):
                returned = self._returned(name)
                return [tuple_.elts[at] for tuple_ in returned if isinstance(tuple_, ast.Tuple)]
            case ast.Call(func=ast.Attribute(value=table, attr="get"), args=[_, *defaults]):
                return [table, *defaults]
            case ast.Subscript(value=table):
                return [table]
            case ast.IfExp(body=body, orelse=other):
                return [body, other]
            case ast.GeneratorExp(elt=inner) | ast.Starred(value=inner):
                return [inner]
            case ast.Tuple(elts=parts) | ast.BoolOp(values=parts) | ast.Dict(values=parts):
                return parts
        return []

    def _returned(self, function: str) -> list[ast.expr]:
        inside = ast.walk(self._functions[function]) if function in self._functions else ()
        return [n.value for n in inside if isinstance(n, ast.Return) and n.value is not None]

    def _note(self, node: ast.AST) -> None:
        match node:
            case ast.Assign(targets=[target], value=value):
                self._bind(target, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._bind(target, value)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
                if name in self._functions:
                    parameters = [a.arg for a in self._functions[name].args.args]
                    for parameter, value in zip(parameters, args, strict=False):
                        self._values.setdefault(parameter, []).append(value)
                    for keyword in keywords:
                        if keyword.arg:
                            self._values.setdefault(keyword.arg, []).append(keyword.value)

    def _bind(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self._values.setdefault(target.id, []).append(value)
        if not isinstance(target, ast.Tuple):
            return
        for at, part in enumerate(target.elts):
            inner = value.elts[at] if isinstance(value, ast.Tuple) else _part(value, at)
            self._bind(part, inner)


def _part(value: ast.expr, at: int) -> ast.expr:
    return ast.Subscript(value, ast.Constant(at))
