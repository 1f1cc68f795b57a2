"""Importing a whole folder: find its scenes, check all of them, then write."""

from collections.abc import Callable, Sequence
from pathlib import Path

from mvtokenflow.base.errors import DataError
from mvtokenflow.baselines.importers.catalogue import AUTO
from mvtokenflow.baselines.importers.contract import Given, Wanted
from mvtokenflow.baselines.importers.scenes import places_of
from mvtokenflow.baselines.importers.writing import SAME, Import, checked, refuse_other, write

Report = Callable[[str, int, int], object]


def checked_scenes(
    source: Path,
    views_of: Callable[[str], Sequence[Wanted]],
    known: Sequence[str] | None,
    given: Given,
    *,
    scene: str | None = None,
    kind: str = AUTO,
) -> list[Import]:
    """Read and check all scenes of a folder; nothing is written.

    Args:
        source: one scene, or a folder with a folder for each.
        views_of: the views of a scene of the dataset.
        known, scene, kind: see `scenes.places_of`.

    Raises:
        DataError, ConfigError: as `scenes.places_of` and `contract.Kind.open`; scenes are of several kinds.
    """
    places = places_of(source, known, scene, kind)
    imports = [checked(place, views_of(place.scene), given) for place in places]
    first = imports[0]
    for other in imports[1:]:
        for name in SAME:
            if other.record.get(name) != first.record.get(name):
                raise DataError(
                    f"{source}: {first.scene} and {other.scene} differ in {name} ({first.record.get(name)} and "
                    f"{other.record.get(name)}); import one with `mvtf-eval import --scene {first.scene}`"
                )
    return imports


def import_folder(imports: Sequence[Import], out: Path, report: Report) -> dict[str, bool]:
    """Write checked scenes, `<out>/<scene>/...`.

    Args:
        report: called with (stage, done, total).

    Returns:
        By scene whether there was something to do.

    Raises:
        DataError: something else is there; nothing was written.
    """
    for one in imports:
        refuse_other(one, out / one.scene)
    return {one.scene: write(one, out / one.scene, report) for one in imports}
