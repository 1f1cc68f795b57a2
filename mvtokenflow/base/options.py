"""What the command lines' options have in common: shared ones, groups, former names, checks of paths."""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from mvtokenflow.base.errors import DataError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Device = Annotated[
    str, typer.Option(help="Torch device: auto (a GPU if torch sees one, else the CPU), cpu or cuda.")
]

Run = Callable[..., None]


def check_there(path: Path | None, cure: str) -> None:
    """Refuse a path that does not exist, before anything heavy is imported.

    Args:
        path: None is accepted.
        cure: what to give instead, as the end of the sentence.

    Raises:
        DataError: nothing is there.
    """
    if path is None or path.exists():
        return
    scheme, _, rest = str(path).partition(":/")
    if scheme in ("http", "https", "ftp", "s3", "gs"):
        address = f"{scheme}://{rest.lstrip('/')}"  # paths keep one of two slashes
        raise DataError(f"{address}: an address; nothing is downloaded here, fetch the file first and {cure}")
    raise DataError(f"{path}: no such file or folder; {cure}")


def grouped(group: type[Any]) -> Callable[[Run], Run]:
    """Give a command the fields of a dataclass as options, in place of its parameter `options`.

    Args:
        group: a dataclass; a field's annotation and default are those of the option.
    """
    hints = typing.get_type_hints(group, include_extras=True)
    fields = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in dataclasses.fields(group)
    ]

    def decorate(command: Run) -> Run:
        own = inspect.signature(command, eval_str=True).parameters
        kept = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for name, p in own.items() if name != "options"]

        @functools.wraps(command)
        def run(**given: Any) -> None:
            options = group(**{field.name: given.pop(field.name) for field in fields})
            command(**given, options=options)

        parameters = [*kept, *fields]
        vars(run)["__signature__"] = inspect.Signature(parameters)
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def renamed(
    names: Mapping[str, str], words_of: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> type[TyperCommand]:
    """Return a kind of command that still takes options by former names, which its help does not list.

    Args:
        names: the present name by the former one.
        words_of: options whose word may be left out, with their words; the first stands for none.
    """

    class Renamed(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            from mvtokenflow.base.terminal import print_message

            words = []
            for word, following in zip(args, [*args[1:], None], strict=True):
                name, equals, value = word.partition("=")
                if name in names:
                    print_message(
                        f"{name} is called {names[name]} now; its former name goes with the next release"
                    )
                    word = f"{names[name]}{equals}{value}"
                words.append(word)
                if word in words_of and following not in words_of[word]:
                    words.append(words_of[word][0])
            return super().parse_args(ctx, words)

    return Renamed
