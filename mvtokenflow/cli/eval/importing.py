"""`mvtf-eval import`: what other programs leave behind, as pictures in the layout of renderings."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mvtokenflow.base.options import Json, check_there
from mvtokenflow.base.terminal import print_json, print_message, progress
from mvtokenflow.cli.eval.grid import DatasetRoot, check_names

if TYPE_CHECKING:
    from mvtokenflow.baselines.importers.contract import Given, Wanted
    from mvtokenflow.baselines.importers.writing import Import

Source = Annotated[
    Path,
    typer.Argument(
        metavar="SRC", help="Results of one scene, or a folder with a folder for each.", show_default=False
    ),
]
Kind = Annotated[
    str, typer.Option(help="What wrote them, see docs/importing.md; package.module:attribute for yours.")
]
Scene = Annotated[str | None, typer.Option(help="SRC, or its folder of this name, is this scene.")]
Views = Annotated[
    str | None,
    typer.Option(metavar="NAME=VIEW,...", help="Which folder or video is which view, e.g. az_285=eval_0."),
]
First = Annotated[int | None, typer.Option(min=0, help="Number of the picture that is the first frame.")]
Frames = Annotated[int | None, typer.Option(min=2, help="Frames that the method was fitted to.")]
Radius = Annotated[float | None, typer.Option(help="Distance of the method's cameras, in its world units.")]
Fov = Annotated[float | None, typer.Option("--fov", help="Vertical field of view of its cameras, degrees.")]
Azimuths = Annotated[
    str | None, typer.Option(metavar="DEG,...", help="Of its views, in the order of its files.")
]
Nearest = Annotated[float, typer.Option(min=0, help="Accept a view so many degrees off; recorded.")]
World = Annotated[str | None, typer.Option(help="Axes of a .ply: here, dreamgaussian (Y up) or threestudio.")]
Side = Annotated[int | None, typer.Option("--size", min=16, help="Side of rendered pictures, pixels.")]


def import_(
    source: Source,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder of the row; a scene is a folder in it.", show_default=False),
    ],
    kind: Kind = "auto",
    scene: Scene = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Whose views, sizes and frame numbers; the Consistent4D views by default."),
    ] = None,
    root: DatasetRoot = None,
    reference: Annotated[
        Path | None, typer.Option("--gt", help="Reference pictures instead of a dataset, as for `score`.")
    ] = None,
    views: Views = None,
    first: First = None,
    frames: Frames = None,
    radius: Radius = None,
    fov: Fov = None,
    azimuths: Azimuths = None,
    nearest: Nearest = 0.0,
    world: World = None,
    size: Side = None,
    as_json: Json = False,
) -> None:
    """Turn what another program left behind into renderings: SCENE/VIEW/N.png and SCENE/import.json.

    Checks everything before it writes anything. The folder is then that of `score` and `--import`.

    Example: mvtf-eval import SC4D/logs -o renders/sc4d --dataset consistent4d --root data
    """
    check_there(source, "give the folder that the program wrote")
    check_there(reference, "expected <object>/eval_<i>/<n>.png in it")
    if dataset is not None:
        check_names(dataset)
    from mvtokenflow.baselines.importers.folder import checked_scenes, import_folder

    given = _given(views, first, frames, radius, fov, azimuths, nearest, world)
    known, views_of = _views(dataset, root, reference, size)
    imports = checked_scenes(source, views_of, known, given, scene=scene, kind=kind)
    with progress() as report:
        done = import_folder(imports, out, report)
    if as_json:
        print_json({one.scene: {"written": done[one.scene], **one.record} for one in imports})
        return
    for one in imports:
        print_message(_sentence(one, out / one.scene, done[one.scene]))


def _sentence(one: "Import", folder: Path, written: bool) -> str:
    record = one.record
    counts = f"{record['frames']} frames of {', '.join(record['views'])}"
    remarks = "".join(f"; {remark}" for remark in record["remarks"])
    return f"{folder}: {'' if written else 'already there, '}{record['kind']}, {counts}{remarks}"


def _given(
    views: str | None,
    first: int | None,
    frames: int | None,
    radius: float | None,
    fov: float | None,
    azimuths: str | None,
    nearest: float,
    world: str | None,
) -> "Given":
    """Return the assumptions of a command line.

    Raises:
        ConfigError: malformed, or out of range.
    """
    from typing import cast, get_args

    from mvtokenflow.base.errors import ConfigError
    from mvtokenflow.base.files import choose
    from mvtokenflow.baselines.importers import contract

    if world is not None:
        choose("world", world, dict.fromkeys(get_args(contract.World)))
    if radius is not None and not 0 < radius < 1e6:
        raise ConfigError(f"--radius {radius:g}: give a distance above 0")
    if fov is not None and not 0 < fov < 180:
        raise ConfigError(f"--fov {fov:g}: give degrees between 0 and 180")
    return contract.Given(
        frames=frames,
        first=first,
        radius=radius,
        fov_deg=fov,
        azimuths=_degrees(azimuths),
        views=_map(views),
        nearest_deg=nearest,
        world=cast("contract.World | None", world),
    )


def _degrees(text: str | None) -> tuple[float, ...] | None:
    from mvtokenflow.base.errors import ConfigError

    if text is None:
        return None
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"--azimuths {text}: write degrees separated by commas, for example 15,105"
        ) from error
    if not all(-360 <= degrees <= 360 for degrees in found):
        raise ConfigError(f"--azimuths {text}: give degrees from -360 to 360")
    return found


def _map(text: str | None) -> dict[str, str]:
    from mvtokenflow.base.errors import ConfigError

    found: dict[str, str] = {}
    for pair in text.split(",") if text else ():
        label, separator, view = pair.partition("=")
        if not (separator and label and view) or label in found or view in found.values():
            raise ConfigError(f"--views {text}: write NAME=VIEW pairs, each name and view once")
        found[label] = view
    return found


def _views(
    dataset: str | None, root: Path | None, reference: Path | None, size: int | None
) -> "tuple[Sequence[str] | None, Callable[[str], Sequence[Wanted]]]":
    """Return the names of the scenes, None for any, and their views.

    Raises:
        ConfigError: both a dataset and a folder of references.
    """
    from mvtokenflow.base.errors import ConfigError
    from mvtokenflow.baselines.importers.contract import standard_views, wanted_of
    from mvtokenflow.datasets.catalogue import open_dataset
    from mvtokenflow.datasets.folder import FolderDataset

    if reference is not None:
        if dataset is not None or root is not None:
            raise ConfigError("`mvtf-eval import --gt` stands for a dataset and its folder; give one of them")
        data = FolderDataset(reference, option="--gt")
        return list(data.reference_folders()), lambda name: wanted_of(data.reference(name), size)
    if dataset is None:
        if root is not None:
            raise ConfigError(
                "`mvtf-eval import --root` is a dataset's folder; add `mvtf-eval import --dataset`"
            )
        return None, lambda name: standard_views(size)
    opened: Any = open_dataset(dataset, root)
    return list(opened.scene_names()), lambda name: wanted_of(opened.scene(name), size)


@contextmanager
def mended(prediction: Path, reference: Path) -> Iterator[None]:
    """End a refusal of renderings with the import that mends it, where one does.

    Raises:
        UserError: what the block raises.
    """
    from mvtokenflow.base.errors import DataError, ProtocolError, UserError

    try:
        yield
    except (DataError, ProtocolError) as error:
        if str(prediction) not in str(error) or not _would_import(prediction, reference, UserError):
            raise
        out = prediction.resolve().name + "-imported"
        command = f"mvtf-eval import {prediction} --gt {reference} -o renders/{out}"
        raise type(error)(f"{error}. `{command}` makes renderings of it that can be scored") from error


def _would_import(prediction: Path, reference: Path, refusal: type[Exception]) -> bool:
    """Return whether an import without further options reads a folder, and changes something about it."""
    from mvtokenflow.baselines.importers.contract import Given
    from mvtokenflow.baselines.importers.folder import checked_scenes

    try:
        known, views_of = _views(None, None, reference, None)
        imports = checked_scenes(prediction, views_of, known, Given())
    except refusal:
        return False
    return any(one.changes() for one in imports)
