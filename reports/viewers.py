"""The viewer of a scene: one page with the last field of every row that left one."""

from pathlib import Path

from mvtokenflow.base.errors import DataError
from mvtokenflow.reports.artefacts import listed
from mvtokenflow.reports.scene import Namer, ScenePage


def write_scene_viewer(page: ScenePage, folder: Path, back: str) -> str | None:
    """Write `folder`/<slug>.viewer.html; rows whose field cannot be shown are named there with the reason.

    Args:
        back: address of the scene's page.

    Returns:
        Name of the file; None where no row has a field that can be shown.
    """
    fields = [(one, found[-1][1]) for one in page.series if (found := listed(one.run, "field"))]
    if not fields:
        return None
    from mvtokenflow.viewer.page import write_viewer  # with torch: only scenes with fields pay for it
    from mvtokenflow.viewer.sources import pack_source

    named = Namer(page)
    packed, missing = [], []
    for one, path in fields:
        frames = None if one.run is None else one.run.manifest.frames
        try:
            packed.append(pack_source(path, one.label, frames=frames))
        except DataError as error:
            missing.append((one.label, named(str(error))))
    if not packed:
        return None
    path = folder / f"{page.slug}.viewer.html"
    return write_viewer(path, packed, title=page.name, missing=missing, back=back).name
