"""The kinds of results that can be read, and which of them a folder is."""

from pathlib import Path

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import choose
from mvtokenflow.baselines.importers.contract import Found, Kind, Lacks
from mvtokenflow.baselines.importers.pictures import PICTURES_KIND

AUTO = "auto"
# What one program writes, recognised by files that no other has.
OFFICIAL: tuple[Kind, ...] = ()
# What anybody may write; asked where no program's results are found.
GENERAL: tuple[Kind, ...] = (PICTURES_KIND,)
KINDS: tuple[Kind, ...] = (*OFFICIAL, *GENERAL)


def kind_named(name: str) -> Kind:
    """The kind of a name.

    Raises:
        ConfigError: there is none.
    """
    return choose("kind of results", name, {kind.name: kind for kind in KINDS})


def recognised(folder: Path, name: str = AUTO) -> tuple[Kind, Found] | None:
    """The kind that a folder is, and where its files are; None if it is none.

    Args:
        name: of the only kind to be asked, or "auto" for all.

    Raises:
        ConfigError: no such kind.
        DataError: the folder is of several kinds, or cannot be read.
    """
    for kinds in (OFFICIAL, GENERAL) if name == AUTO else ((kind_named(name),),):
        claims = [(kind, found) for kind in kinds if isinstance(found := kind.probe(folder), Found)]
        if len(claims) > 1:
            listed = ", ".join(kind.name for kind, _ in claims)
            raise DataError(
                f"{folder}: holds results of several kinds, {listed}; name one with `mvtf-eval import --kind`"
            )
        if claims:
            return claims[0]
    return None


def lacking(folder: Path, name: str = AUTO) -> str:
    """Why a folder is of no kind: what it lacks for each."""
    kinds = KINDS if name == AUTO else (kind_named(name),)
    reasons = [(kind.name, kind.probe(folder)) for kind in kinds]
    return "; ".join(f"{name} lacks {found.what}" for name, found in reasons if isinstance(found, Lacks))
