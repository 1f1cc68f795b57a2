"""The kinds of results that can be read, and which of them a folder is."""

from pathlib import Path

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.base.files import choose
from mvtokenflow.base.imports import attribute_at
from mvtokenflow.base.names import brief
from mvtokenflow.baselines.importers.consistent4d import CONSISTENT4D
from mvtokenflow.baselines.importers.consistent4d_video import CONSISTENT4D_VIDEO
from mvtokenflow.baselines.importers.contract import Found, Kind, Lacks
from mvtokenflow.baselines.importers.dg4d import DG4D
from mvtokenflow.baselines.importers.diffusion2 import DIFFUSION2
from mvtokenflow.baselines.importers.gen4d import GEN4D
from mvtokenflow.baselines.importers.l4gm import L4GM
from mvtokenflow.baselines.importers.pictures import PICTURES_KIND
from mvtokenflow.baselines.importers.plysequence import PLY_SEQUENCE
from mvtokenflow.baselines.importers.sc4d import SC4D
from mvtokenflow.baselines.importers.stag4d import STAG4D
from mvtokenflow.baselines.importers.sv4d import SV4D, SV4D2

AUTO = "auto"
# What one program writes, recognised by files that no other has.
OFFICIAL: tuple[Kind, ...] = (CONSISTENT4D, SC4D, STAG4D, DG4D, DIFFUSION2, SV4D, SV4D2, L4GM, GEN4D)
# Poorer forms of results that another kind reads from the same folder; asked by name only.
NAMED: tuple[Kind, ...] = (CONSISTENT4D_VIDEO,)
# What anybody may write; asked where no program's results are found.
GENERAL: tuple[Kind, ...] = (PICTURES_KIND, PLY_SEQUENCE)
KINDS: tuple[Kind, ...] = (*OFFICIAL, *NAMED, *GENERAL)


def kind_named(name: str) -> Kind:
    """Return the kind of a name, or the object at "package.module:attribute" for a kind of your own.

    Raises:
        ConfigError: there is none, or it has not what a kind has.
    """
    if ":" in name:
        kind: Kind = attribute_at(name, f"kind of results {brief(name)}")
        for needed in ("name", "repository", "options", "probe", "open"):
            if not hasattr(kind, needed):
                raise ConfigError(
                    f"kind of results {name} has no '{needed}'; see baselines/importers/contract.py"
                )
        return kind
    return choose("kind of results", name, {kind.name: kind for kind in KINDS})


def recognised(folder: Path, name: str = AUTO) -> tuple[Kind, Found] | None:
    """Return the kind that a folder is, and where its files are; None if it is none.

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
    return "; ".join(f"{kind} lacks {found.what}" for kind, found in reasons if isinstance(found, Lacks))
