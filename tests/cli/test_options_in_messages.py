"""Every option that a message names is an option of the command that prints it.

The commands are followed through the source: from the function of a verb to every function and class that it
names, in whatever module, and from there on. A text inside one of them may name an option only if all verbs
that lead to it have it, or as part of a whole command, `mvtf-eval table1 --force` say, which must be one.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("mvtokenflow", "eval", "baselines", "datasets", "reports")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
COMMAND = re.compile(r"`(mvtf(?:-eval)?) ([a-z][a-z0-9-]*(?: [a-z]+)?)([^`]*)`")
OTHERS = re.compile(r"\bhf download [^;`]*")  # programs of others

# Options that only verbs which have them pass on; the others leave the argument out.
PASSED_ON = {
    "mvtokenflow.base.terminal.check_device": {"--device"},
    "mvtokenflow.cli.eval.common.check_jobs": {"--jobs"},
    "mvtokenflow.cli.eval.common.check_weights": {"--weights"},
    "mvtokenflow.cli.eval.grid.check_imports": {"--import"},
    "mvtokenflow.cli.eval.grid.import_paths": {"--import"},
    "mvtokenflow.eval.tables.words.shard_named": {"--shard"},
    "mvtokenflow.media.video._CUT_OUT": {"--mask"},  # read by `mvtf run` alone
    "mvtokenflow.baselines.importers.diffusion2._refuse_reframed": {"--image"},  # its --image_frame_ratio
    "mvtokenflow.cli.eval.engines.EngineOptions": {"--shard"},
    "mvtokenflow.eval.engine.slurm._SQUEUE": {"--format"},  # an option of squeue
    "mvtokenflow.eval.tables.render.refuse_other_pictures": {"--runs"},  # `score --engine` delivers no runs
    # Whole commands of other verbs, on a page.
    "mvtokenflow.reports.run_page._commands": {"--splat", "--glb", "--azimuth", "--time"},
}

Node = tuple[str, str]  # module and top-level name


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[0] == "mvtokenflow" else ("mvtokenflow", *parts))


@cache
def sources() -> Mapping[str, ast.Module]:
    paths = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    real = [path for path in paths if path.resolve() == path]  # the rooms are linked into the package
    return {_module(path): ast.parse(path.read_text()) for path in real}


@cache
def definitions() -> Mapping[Node, ast.AST]:
    """Top-level functions, classes and assigned names."""
    found: dict[Node, ast.AST] = {}
    for module, tree in sources().items():
        for item in tree.body:
            if isinstance(item, ast.FunctionDef | ast.ClassDef):
                found[module, item.name] = item
            elif isinstance(item, ast.Assign | ast.AnnAssign):
                targets = item.targets if isinstance(item, ast.Assign) else [item.target]
                for name in (
                    node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)
                ):
                    found[module, name] = item
    return found


def _imports(tree: ast.AST) -> dict[str, Node | str]:
    """What names mean inside a tree: (module, name), or a module."""
    meaning: dict[str, Node | str] = {}
    for item in ast.walk(tree):
        if isinstance(item, ast.ImportFrom) and (item.module or "").startswith("mvtokenflow"):
            for alias in item.names:
                whole = f"{item.module}.{alias.name}"
                known = alias.asname or alias.name
                meaning[known] = whole if whole in sources() else (str(item.module), alias.name)
    return meaning


@cache
def module_imports(module: str) -> Mapping[str, Node | str]:
    return _imports(sources()[module])


def named(node: Node) -> Iterator[Node]:
    """What a definition names."""
    module = node[0]
    meaning = module_imports(module)
    for item in ast.walk(definitions()[node]):
        if isinstance(item, ast.Name):
            target = meaning.get(item.id, (module, item.id))
            if isinstance(target, tuple):
                yield target
        elif isinstance(item, ast.Attribute) and isinstance(item.value, ast.Name):
            target = meaning.get(item.value.id, "")
            if isinstance(target, str):
                yield target, item.attr
        elif isinstance(item, ast.Constant) and isinstance(item.value, str) and item.value in sources():
            yield from (found for found in definitions() if found[0] == item.value)  # imported by its name


@cache
def verbs() -> Mapping[str, tuple[Node, frozenset[str]]]:
    """By program and verb: its function, and its options."""
    from mvtokenflow.cli.mvtf import app as mvtf
    from mvtokenflow.cli.mvtf_eval import app as mvtf_eval

    found = {}
    for program, app in (("mvtf", mvtf), ("mvtf-eval", mvtf_eval)):
        root: Any = get_command(app)
        for name, command in root.commands.items():
            inner = getattr(command, "commands", None)
            for verb, one in (
                {f"{name} {sub}": c for sub, c in inner.items()}.items() if inner else [(name, command)]
            ):
                options = {
                    word for parameter in one.params for word in (*parameter.opts, *parameter.secondary_opts)
                }
                function = one.callback.__wrapped__ if hasattr(one.callback, "__wrapped__") else one.callback
                found[f"{program} {verb}"] = (
                    (function.__module__, function.__name__),
                    frozenset(options | {"--help"}),
                )
    return found


@cache
def reached_by() -> Mapping[Node, frozenset[str]]:
    """The verbs that lead to each definition."""
    reached: dict[Node, set[str]] = {}
    for verb, (start, _) in verbs().items():
        waiting = [start]
        seen: set[Node] = set()
        while waiting:
            node = waiting.pop()
            if node in seen or node not in definitions():
                continue
            seen.add(node)
            reached.setdefault(node, set()).add(verb)
            waiting.extend(named(node))
    return {node: frozenset(found) for node, found in reached.items()}


def texts(tree: ast.AST) -> Iterator[str]:
    """Text that may be printed: no docstrings, no declarations of options; of f-strings the constant parts."""
    skipped: set[int] = set()
    for item in ast.walk(tree):
        body = getattr(item, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            skipped.add(id(body[0].value))
        if isinstance(item, ast.Call) and ast.unparse(item.func) in ("typer.Option", "typer.Argument"):
            skipped |= {id(inner) for inner in ast.walk(item)}
        if isinstance(item, ast.JoinedStr):
            skipped |= {id(part) for part in item.values}
            if id(item) not in skipped:
                yield "".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in item.values)
        elif isinstance(item, ast.Constant) and isinstance(item.value, str) and id(item) not in skipped:
            yield item.value


def is_option_alone(text: str) -> bool:
    """An option of a command that is put together word by word."""
    return bool(OPTION.fullmatch(text.strip()))


def test_the_source_is_followed() -> None:
    """What is known to be reached from where."""
    assert len(verbs()) > 20
    reached = reached_by()
    assert "mvtf-eval score" in reached["mvtokenflow.eval.score.pairs", "plan_folder"]
    assert "mvtf reconstruct" in reached["mvtokenflow.views.folder", "named_cameras"]
    assert "mvtf-eval table1" in reached["mvtokenflow.baselines.mvtokenflow", "FULL"]
    assert "mvtf-eval doctor" not in reached["mvtokenflow.eval.score.pairs", "plan_folder"]


def test_options_of_whole_commands_exist() -> None:
    met = 0
    for module, tree in sources().items():
        for text in texts(tree):
            for program, words, rest in COMMAND.findall(text):
                verb = next(
                    (v for v in (f"{program} {words}", f"{program} {words.split()[0]}") if v in verbs()), None
                )
                if verb is None and f"{program} {words}" in {v.rsplit(" ", 1)[0] for v in verbs()}:
                    continue  # a group alone, `mvtf-eval weights`
                assert verb is not None, f"{module}: no verb in `{program} {words}{rest}`"
                unknown = set(OPTION.findall(rest)) - verbs()[verb][1]
                assert not unknown, f"{module}: {verb} has no {', '.join(unknown)}"
                met += 1
    assert met > 20


@pytest.mark.parametrize("module", sorted(sources()))
def test_a_command_has_the_options_that_its_messages_name(module: str) -> None:
    faults = []
    for node, tree in definitions().items():
        if node[0] != module:
            continue
        allowed = PASSED_ON.get(".".join(node), set())
        for text in texts(tree):
            if is_option_alone(text):
                continue
            for option in set(OPTION.findall(OTHERS.sub("", COMMAND.sub("", text)))) - allowed:
                lacking = sorted(v for v in reached_by().get(node, ()) if option not in verbs()[v][1])
                if lacking:
                    faults.append(f"{node[1]}: '{text[:80]}' names {option}, which {', '.join(lacking)} lacks")
    assert not faults, "\n".join(faults)
