"""The pages of the docs site: those of the repository, and one for each room made of its docstrings.

`mkdocs.yml` names this file; `make docs` builds the site. Links between files of the repository become links
between pages; a link to a file that has no page becomes its text.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = {  # of the site, by file of the repository; the files of docs/ keep their names
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "THIRD_PARTY.md": "THIRD_PARTY.md",
    "examples/README.md": "examples.md",
    "mvtokenflow/small/weights/CLIP.md": "small-clip.md",
    "mvtokenflow/small/weights/PRIOR.md": "small-prior.md",
}
TOPS = ("mvtokenflow", "eval", "baselines", "datasets", "reports")
COMMANDS = "cli"  # the command lines are no interface for Python
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"(```.*?```)", re.S)


def rooms() -> dict[str, list[str]]:
    """Public modules by room; both by their dotted names, `mvtokenflow` first."""
    found: dict[str, list[str]] = {}
    for top in TOPS:
        for init in (ROOT / top).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT).parts
            if top == "mvtokenflow" and len(parts) > 1 and parts[1] in (*TOPS, COMMANDS):
                continue  # links to the other rooms
            room = ".".join(parts if top == "mvtokenflow" else ("mvtokenflow", *parts))
            modules = [path.stem for path in init.parent.glob("*.py") if not path.stem.startswith("_")]
            found[room] = [f"{room}.{name}" for name in sorted(modules)]
    return dict(sorted(found.items()))


def page_of(room: str) -> str:
    """The page of a room in the site."""
    return f"api/{room}.md"


def api_page(room: str, modules: list[str]) -> str:
    """The text of a room's page: what stands in its `__init__.py`, then its modules."""
    parts = [f"# {room}", f"::: {room}\n    options:\n      show_root_heading: false"]
    parts += [f"::: {module}" for module in modules]
    return "\n\n".join(parts) + "\n"


def examples_page() -> str:
    """The page of the examples, with their code."""
    text = (ROOT / "examples" / "README.md").read_text()
    for path in sorted((ROOT / "examples").glob("*.py")):
        text += f"\n## {path.name}\n\n```python\n{path.read_text()}```\n"
    return text


def linked(text: str, source: str, place: str) -> str:
    """A page's text with links as they are in the site.

    Args:
        source: file of the repository that the text is from. place: of the page in the site.
    """

    def link(found: re.Match[str]) -> str:
        mark, words, target = found.groups()
        if "://" in target or target.startswith("#"):
            return found.group()
        path, _, anchor = target.partition("#")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        page = PAGES.get(file)
        if page is None and file.startswith("docs/") and (ROOT / file).is_file():
            page = file.removeprefix("docs/")
        if page is None:
            return words
        to = posixpath.relpath(page, posixpath.dirname(place) or ".")
        return f"{mark}[{words}]({to}{'#' if anchor else ''}{anchor})"

    parts = _FENCE.split(text)
    return "".join(part if part.startswith("```") else _LINK.sub(link, part) for part in parts)


def pages() -> Iterator[tuple[str, str]]:
    """Place and text of every page that is not a file of docs/."""
    for source, place in PAGES.items():
        text = examples_page() if source == "examples/README.md" else (ROOT / source).read_text()
        yield place, linked(text, source, place)
    for room, modules in rooms().items():
        yield page_of(room), api_page(room, modules)


# ---- called by mkdocs ----


def on_config(config: Any) -> Any:
    """Add the rooms to the navigation."""
    config.nav.append({"Python": [{room: page_of(room)} for room in rooms()]})
    return config


def on_files(files: Any, *, config: Any) -> Any:
    """Add the pages that are not files of docs/."""
    from mkdocs.structure.files import File

    for place, text in pages():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Links of the files of docs/."""
    place = page.file.src_uri
    is_file_of_docs = (ROOT / "docs" / place).is_file()
    return linked(markdown, f"docs/{place}", place) if is_file_of_docs else markdown
