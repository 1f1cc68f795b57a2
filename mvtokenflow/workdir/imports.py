"""Digest of the code that modules import, directly or not, on which a cached result depends.

Imports are found in syntax trees, without importing anything. The standard library and installed packages are
left out, their versions are recorded instead (`workdir.provenance`); this package is included, and so is a
method or dataset from outside with everything that it imports from outside `site-packages`.
"""

import ast
import site
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from mvtokenflow.base.files import digest

_THIS = __name__.partition(".")[0]
_ALL = "*"
_WEIGHTS = "weights"  # subfolder of a package with shipped networks
_NO_CODE = (".md",)
# Data of the weights ledger. Keys hold the sha256 of the weights used, so that a new entry changes none.
_LEDGER = ("mvtokenflow.weights.entries", "mvtokenflow.weights.method_entries")


@cache
def code_digest(*modules: str) -> str:
    """Compute the sha256, in hex, of the code that modules import, themselves included, and of shipped weights.

    Docstrings, comments, layout and the entries of the weights ledger do not matter.

    Args:
        modules: dotted names.
    """
    found = imported_files(modules)
    parts = [(name, _code(path)) for name, path in sorted(found.items()) if name not in _LEDGER]
    folders = {path.parent for path in found.values() if path.name == "__init__.py"}
    for folder in sorted(folders):
        kept = sorted(p for p in (folder / _WEIGHTS).glob("*") if p.is_file() and p.suffix not in _NO_CODE)
        kept = [path for path in kept if path.suffix != ".py"]
        parts += [(f"{folder.name}/{path.name}", path.read_bytes()) for path in kept]
    return digest(parts)


def imported_files(modules: Sequence[str]) -> dict[str, Path]:
    """Map module names to source files: `modules` and all that they import, at top level or in functions.

    Args:
        modules: dotted names; their top-level packages are included wherever they are installed.
    """
    ours = {_THIS, *(name.partition(".")[0] for name in modules)}
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        path = _source(name, ours)
        if path is None:
            waiting += _handed_out(name, ours)
            continue
        found[name] = path
        waiting += [name.rpartition(".")[0]] if "." in name else []
        waiting += _imports(path, name if path.name == "__init__.py" else name.rpartition(".")[0])
    return found


def _imports(path: Path, package: str) -> Iterator[str]:
    """Yield the names that a file imports: modules, and attributes of modules that may be modules."""
    tree = _tree(path)
    for node in _executed(tree) if tree is not None else ():
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            yield from (f"{alias.name.partition('.')[0]}.{_ALL}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                kept = package.split(".")[: len(package.split(".")) - node.level + 1]
                module = ".".join([*kept, *([module] if module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a tree without those that only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and _is_for_checkers(node):
            for other in node.orelse:
                yield other
                yield from _executed(other)
        else:
            yield node
            yield from _executed(node)


def _is_for_checkers(node: ast.If) -> bool:
    return ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _handed_out(name: str, ours: set[str]) -> Iterator[str]:
    """Yield the modules behind an attribute that a package loads lazily, or behind all (`_ALL`)."""
    package, _, wanted = name.rpartition(".")
    path = _source(package, ours) if package else None
    tree = _tree(path) if path is not None and path.name == "__init__.py" else None
    if tree is None or not any(isinstance(n, ast.FunctionDef) and n.name == "__getattr__" for n in tree.body):
        return
    for node in tree.body:
        for inner in node.body if isinstance(node, ast.If) and _is_for_checkers(node) else ():
            if isinstance(inner, ast.ImportFrom) and inner.module and not inner.level:
                for alias in inner.names:
                    if wanted in (_ALL, alias.asname or alias.name):
                        yield inner.module
                        yield f"{inner.module}.{alias.name}"


def _source(name: str, ours: set[str]) -> Path | None:
    """Return the source file of an included module; None for others and for names that are no module."""
    top, *rest = name.split(".")
    if top in sys.stdlib_module_names and top != "__main__":
        return None
    if top == "__main__":
        file = getattr(sys.modules[top], "__file__", None)
        return None if file is None or rest else Path(file)
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return None
    places = [Path(place) for place in spec.submodule_search_locations or ()]
    path = Path(spec.origin) if spec.has_location and spec.origin else None
    if top not in ours and _is_installed(path or next(iter(places), None)):
        return None
    for part in rest:
        folder = next((place / part for place in places if (place / part).is_dir()), None)
        file = next((place / f"{part}.py" for place in places if (place / f"{part}.py").is_file()), None)
        if folder is not None and (folder / "__init__.py").is_file():
            path, places = folder / "__init__.py", [folder]
        elif file is not None:
            path, places = file, []
        else:
            path, places = None, [] if folder is None else [folder]
    return path if path is not None and path.suffix == ".py" else None


def _is_installed(path: Path | None) -> bool:
    """Return whether a file belongs to the standard library or to an installed package, which have versions."""
    if path is None:
        return True
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    places = [
        *(sysconfig.get_path(kind) for kind in kinds),
        *site.getsitepackages(),
        site.getusersitepackages(),
    ]
    return "site-packages" in path.parts or any(path.is_relative_to(place) for place in places)


@cache
def _tree(path: Path) -> ast.Module | None:
    """Parse the syntax tree of a file; None where it has none."""
    try:
        return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return None


@cache
def _code(path: Path) -> bytes:
    """Serialise a file's syntax tree without docstrings; a file that is not Python gives its own bytes."""
    tree = _tree(path)
    if tree is None:
        return path.read_bytes()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and _documented(
            node
        ):
            node.body = node.body[1:]
    return ast.dump(tree).encode()


def _documented(node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    first = node.body[0] if node.body else None
    return (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
