"""The row of `--import NAME=SRC`: renderings as they lie there, or results that are imported first."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from mvtokenflow.base.errors import DataError, UserError
from mvtokenflow.base.files import digest_json, frame_files, frame_numbers
from mvtokenflow.baselines.imported import ImportedRenderings, ImportedRun, imported_run, is_imported
from mvtokenflow.baselines.importers.contract import Given, wanted_of
from mvtokenflow.baselines.importers.folder import Report, checked_scenes
from mvtokenflow.baselines.importers.writing import write
from mvtokenflow.baselines.method import Method
from mvtokenflow.datasets.layout import entries_of
from mvtokenflow.datasets.scene import Dataset, Scene
from mvtokenflow.media.pictures import png_kind

_VIEW = re.compile(r"input\Z|eval_\d+\Z")


def imported_row(
    name: str, source: Path, dataset: Dataset, scenes: Sequence[str], store: Path, report: Report, command: str
) -> Method:
    """Return the row of a folder of renderings, or of results of any kind that is read.

    Args:
        name: row label.
        dataset, scenes: what the row is judged on.
        store: folder in which results that have to be drawn or decoded are kept as pictures.
        report: called with (stage, done, total).
        command: of the import with other assumptions, for messages.

    Raises:
        UserError: nothing there can be used; nothing was written.
    """
    if is_imported(source):
        return imported_run(name, source)
    book = {scene: _once(dataset, scene) for scene in scenes}
    if all(_is_plain(source / scene, book[scene]) for scene in scenes if (source / scene).is_dir()) and any(
        (source / scene).is_dir() for scene in scenes
    ):
        return ImportedRenderings(name=name, root=source)
    try:
        imports = checked_scenes(source, lambda scene: wanted_of(book[scene]()), scenes, Given())
    except UserError as error:
        if "`mvtf-eval import --" not in str(error):
            raise
        raise type(error)(f"{error}, in full `{command}`; then give this option that folder") from error
    folders = {one.scene: store / digest_json(one.record)[:16] / one.scene for one in imports}
    for one in imports:
        write(one, folders[one.scene], report)
    return ImportedRun(name=name, root=source, folders=folders)


def _once(dataset: Dataset, name: str) -> Callable[[], Scene]:
    """Open a scene when it is first needed: one that is generated takes minutes."""
    found: list[Scene] = []

    def scene() -> Scene:
        if not found:
            found.append(dataset.scene(name))
        return found[0]

    return scene


def _is_plain(folder: Path, scene: Callable[[], Scene]) -> bool:
    """Return whether a scene's views are folders of RGB pictures of one size under the dataset's numbers."""
    views = [entry for entry in entries_of(folder) if entry.is_dir()]
    if not any(_VIEW.match(view.name) for view in views):
        names = {view.name for view in scene().all_views()}
        if names.isdisjoint(view.name for view in views):
            return False
    return all(_is_plain_view(view, scene) for view in views if _VIEW.match(view.name))


def _is_plain_view(folder: Path, scene: Callable[[], Scene]) -> bool:
    try:
        paths = frame_files(folder)
        numbers = frame_numbers(paths)
        kinds = {png_kind(path) for path in paths}
    except DataError:
        return False
    if len(kinds) > 1 or next(iter(kinds))[0] != "8-bit RGB":
        return False
    if numbers == list(range(len(numbers))):
        return True
    known = next((view.frame_numbers() for view in scene().all_views() if view.name == folder.name), [])
    return not known or numbers == known[: len(numbers)]
