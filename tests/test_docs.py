"""The documents against the code: links, commands, variables, protocols, imports."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer

import mvtokenflow
from mvtokenflow.cli.mvtf import app as method_app
from mvtokenflow.cli.mvtf_eval import app as harness_app
from mvtokenflow.eval import protocols
from mvtokenflow.eval.gate.compare import EXIT_CODES
from mvtokenflow.eval.metrics.spec import MetricSpec
from mvtokenflow.eval.protocols import METRICS, PROTOCOLS, Protocol
from mvtokenflow.eval.tables.specs import COSTS, TABLES
from mvtokenflow.weights.ledger import WEIGHTS, variable

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])
ROOMS = ("eval", "baselines", "datasets", "reports")
# Both command lines and the page that describes each.
PROGRAMS: dict[str, tuple[Any, str]] = {
    "mvtf-eval": (typer.main.get_command(harness_app), "docs/commands.md"),
    "mvtf": (typer.main.get_command(method_app), "docs/mvtf.md"),
}


def _text(name: str) -> str:
    return (ROOT / name).read_text()


def _verbs(group: Any, prefix: str = "") -> dict[str, Any]:
    """Every command that does something, by its words."""
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        whole = f"{prefix} {name}".strip()
        found |= _verbs(command, whole) if hasattr(command, "commands") else {whole: command}
    return found


VERBS = {program: _verbs(group) for program, (group, _) in PROGRAMS.items()}
EVERY_VERB = [(program, verb) for program, verbs in VERBS.items() for verb in verbs]


def _parse(line: str) -> tuple[str, str]:
    """Program and verb of a command line, after its options were parsed; nothing is run."""
    words = shlex.split(line, comments=True)
    program = next(word for word in words if word in PROGRAMS)
    words = words[words.index(program) + 1 :]
    verb: list[str] = []
    while " ".join(verb) not in VERBS[program]:
        assert words, f"{line}: no such verb; known: {', '.join(VERBS[program])}"
        verb.append(words.pop(0))
    VERBS[program][" ".join(verb)].make_context(" ".join(verb), list(words))
    return program, " ".join(verb)


def _shell_lines(text: str) -> Iterator[str]:
    for block in re.findall(r"```sh\n(.*?)```", text, re.S):
        yield from (line for line in block.splitlines() if line.strip())


# ---- links ----


def _prose(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.S)


def _anchors(text: str) -> set[str]:
    """GitHub's anchors of the headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(page.read_text())):
        if target.startswith("http"):
            continue
        place, _, anchor = target.partition("#")
        file = (page.parent / place).resolve() if place else page
        assert file.exists(), f"{page.name} links to {target}"
        assert file.is_relative_to(ROOT), f"{page.name} links out of the repository: {target}"
        if anchor:
            assert anchor in _anchors(file.read_text()), f"{page.name}: no heading #{anchor} in {file.name}"


def test_every_page_is_reachable_from_the_readme() -> None:
    reached, fresh = set(), {ROOT / "README.md"}
    while fresh:
        page = fresh.pop()
        reached.add(page)
        links = re.findall(r"\]\(([^)#\s]+\.md)", _prose(page.read_text()))
        fresh |= {(page.parent / link).resolve() for link in links if "://" not in link} - reached
    assert set(PAGES) <= reached


def test_folders_and_modules_named_in_the_documents_exist() -> None:
    pattern = r"`((?:eval|baselines|datasets|reports|mvtokenflow|docs|tests)/[\w/.-]*)`"
    for page in PAGES:
        for name in re.findall(pattern, page.read_text()):
            if page.name != "datasets.md" or name.endswith(".py"):  # that page names users' folders too
                assert (ROOT / name).exists(), f"{page.name} names {name}"


# ---- commands ----


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_command_page_has_exactly_the_verbs(program: str) -> None:
    headings = re.findall(r"^## (.*)$", _text(PROGRAMS[program][1]), re.M)
    assert sorted(set(headings) - {"Environment variables"}) == sorted(VERBS[program])


@pytest.mark.parametrize(("program", "verb"), EVERY_VERB)
def test_every_verb_is_shown_in_use_on_its_page(program: str, verb: str) -> None:
    section = _text(PROGRAMS[program][1]).split(f"\n## {verb}\n")[1].split("\n## ")[0]
    assert (program, verb) in [_parse(line) for line in _shell_lines(section)]


@pytest.mark.parametrize(("program", "verb"), EVERY_VERB)
def test_help_of_every_verb_has_an_example_that_parses(program: str, verb: str) -> None:
    text = " ".join(str(VERBS[program][verb].help).split())
    examples = re.findall(rf"Example: ({program} .*?)(?=$|Example:)", text)
    assert examples, f"{program} {verb} --help has no example"
    for example in examples:  # the four tables share one text
        assert [word.rstrip("1234") for word in _parse(example)] == [program, verb.rstrip("1234")]


def test_every_command_line_in_the_documents_parses() -> None:
    targets = set(re.findall(r"^([\w-]+):", _text("Makefile"), re.M))
    seen = 0
    for page in PAGES:
        for line in _shell_lines(page.read_text()):
            if line.startswith("make "):
                assert line.split()[1] in targets, f"{page.name}: {line}"
            elif line.startswith("export "):
                assert line.split()[1].partition("=")[0] in _variables_read(), f"{page.name}: {line}"
            else:
                _parse(line)
            seen += 1
    assert seen > 30


def test_documented_exit_codes_of_regress() -> None:
    section = _text("docs/commands.md").split("\n## regress\n")[1].split("\n## ")[0]
    for outcome, code in EXIT_CODES.items():
        assert re.search(rf"^\| {code} \| {outcome}", section, re.M), outcome
    assert f"Severity runs {', '.join(str(code) for code in EXIT_CODES.values())}." in section


def test_the_workflow_runs_targets_that_exist() -> None:
    targets = re.findall(r"^ +- run: make (\w+)$", _text(".github/workflows/ci.yml"), re.M)
    assert targets == ["test", "nightly"]
    assert set(targets) <= set(re.findall(r"^([\w-]+):", _text("Makefile"), re.M))


# ---- variables ----


def _variables_read() -> set[str]:
    """Names of environment variables in the code, those made of weights' names included."""
    sources = [path for room in (*ROOMS, "mvtokenflow") for path in (ROOT / room).rglob("*.py")]
    named = {name for path in sources for name in re.findall(r'"(MVTF_[A-Z0-9_]*[A-Z0-9])"', path.read_text())}
    return named | {variable(name) for name in WEIGHTS}


def test_variables_in_the_documents_are_read_by_the_code_and_vice_versa() -> None:
    texts = " ".join(page.read_text() for page in PAGES)
    documented = {name.rstrip("_") for name in re.findall(r"MVTF_[A-Z0-9_]+", texts)}  # MVTF_WEIGHTS_<NAME>
    assert documented <= _variables_read()
    ours = {name for name in _variables_read() if not name.startswith("MVTF_WEIGHTS_")}
    assert ours <= set(re.findall(r"MVTF_\w+", _text("docs/commands.md")))


# ---- protocols, metrics, tables ----


def _specs() -> list[type[MetricSpec]]:
    return [
        kind
        for kind in vars(protocols).values()
        if isinstance(kind, type) and issubclass(kind, MetricSpec) and kind is not MetricSpec
    ]


def test_every_protocol_and_field_is_documented() -> None:
    page = _text("docs/protocols.md")
    for name in PROTOCOLS:
        assert re.search(rf"^\| `{name}` \|", page, re.M), name
    for field in fields(Protocol):
        assert f"`{field.name}`" in page, field.name
    kinds: list[type[MetricSpec]] = [MetricSpec, *_specs()]
    for kind in kinds:
        assert kind is MetricSpec or f"`{kind.__name__}`" in page, kind.__name__
        for field in fields(kind):
            assert f"`{field.name}`" in page, f"{kind.__name__}.{field.name}"
    for name in MetricSpec.__annotations__:
        assert f"`{name}`" in page, name


def test_the_table_of_protocols_says_what_they_are() -> None:
    page = _text("docs/protocols.md")
    for protocol in PROTOCOLS.values():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{protocol.name}` |"))
        size, strict, frames = (cell.strip() for cell in row.split("|")[3:6])
        assert size == ("native" if protocol.size is None else str(protocol.size))
        assert strict == ("yes" if protocol.strict else "no")
        assert frames == str(protocol.frames)


def test_every_signature_in_the_documents_is_one_the_code_gives() -> None:
    known = {p.signature(spec) for p in PROTOCOLS.values() for spec in p.metrics}
    shown = re.findall(r"(\w+\|v:\d+\|[^\s`\"]*agg:frame>view>object>set)", _text("docs/protocols.md"))
    assert shown
    assert set(shown) <= known


def test_every_metric_is_documented_with_its_direction() -> None:
    page = _text("docs/metrics.md")
    directions = {key: kind.better for key, kind in METRICS.items()}
    directions |= {key: cost.better for key, cost in COSTS.items()}
    for key in directions:
        row = next((line for line in page.splitlines() if line.startswith("|") and f"`{key}`" in line), None)
        assert row is not None, key
        better = row.split("|")[3].strip()
        assert better == {"none": "–"}.get(directions[key], directions[key]), key
        assert re.search(rf"^## .*`{key}`", page, re.M), f"{key} has no section"


def test_the_readme_describes_every_table() -> None:
    for name in TABLES:
        assert re.search(rf"^\| `{name}` \|", _text("README.md"), re.M)


def test_weights_are_in_the_ledger_of_third_parties() -> None:
    for name in WEIGHTS:
        assert f"`{name}`" in _text("THIRD_PARTY.md")


def test_version_is_the_same_everywhere() -> None:
    version = mvtokenflow.__version__
    assert f"\nversion: {version}\n" in _text("CITATION.cff")
    assert f"## [{version}]" in _text("CHANGELOG.md")
    assert f"version = {{{version}}}" in _text("README.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_names_a_folder_of_the_machine_that_wrote_it(page: Path) -> None:
    found = re.findall(r"(?<![\w.~])/(?:tmp|home|root|work|mnt)/\S+", page.read_text())
    assert not found
