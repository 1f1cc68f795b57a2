"""What a run leaves behind to be looked at: generated views, losses, previews, fields, as a typed list.

A method lists its artefacts (`baselines.method.Documented`), a run's manifest records the list, and pages draw
what is listed. Only the method has the names of its folders.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from mvtokenflow.base.damaged import read_json
from mvtokenflow.base.files import write_json
from mvtokenflow.base.names import brief, name_fault

Kind = Literal["views", "normals", "flow", "losses", "previews", "field", "costs", "pose"]
KINDS: tuple[str, ...] = get_args(Kind)
FOLDERS: tuple[Kind, ...] = ("views", "normals", "previews")  # the others are files

MAX_STRIDE = 100_000
MAX_TEXT = 1000
ARTEFACTS_FILE = "artefacts.json"  # the list, in folders that have no manifest
_FIELDS = ("kind", "name", "title", "path", "stride", "note")


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """One file or folder that shows how a result came about.

    Kinds, and what is at `path`:
        views: a multiview folder (`views.folder`), cameras.json and view_<k>/<n>.png, RGBA.
        normals: view_<k>/<n>.png of the views of the same name, world normals 0.5 n + 0.5.
        flow: an .npz of `views.folder`, optical flow of one of the views of the same name.
        losses: JSON lines, one per logged step, with the fields step and gaussians and any loss terms.
        previews: a folder of preview_<step>.png, targets above and renderings below, one column per view.
        field: a field's file.
        costs: seconds and peak memory of stages (`workdir.cost`).
        pose: of the input, as a prior's network estimates it (`multiview.pose`).

    Attributes:
        name: of the pass or training stage, one word; what belongs together has the same.
        title: of it, for people, for instance "First pass".
        path: below the folder of the run, with "/"; None if there is none on purpose (see `note`).
        stride: of views, normals and flow: they show every `stride`-th frame of the clip, and the last.
        note: a sentence without its subject, "has no second pass: ...", or one about what is there.
    """

    kind: Kind
    name: str
    title: str
    path: str | None
    stride: int = 1
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the form that records have."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> "Artefact":
        """Return an artefact as records hold it.

        Raises:
            ValueError: a field is missing, unknown, of another type, or `path` leads out of the folder.
        """
        if not isinstance(value, Mapping):
            raise ValueError(f"is {brief(repr(value))}, not an object")
        if set(value) != set(_FIELDS):
            raise ValueError(f"has the fields {brief(', '.join(map(str, value)))}, not {', '.join(_FIELDS)}")
        if value["kind"] not in KINDS:
            raise ValueError(f"kind is {brief(repr(value['kind']))}, not one of {', '.join(KINDS)}")
        for field in ("name", "title", "note"):
            text = value[field]
            if not isinstance(text, str) or len(text) > MAX_TEXT:
                raise ValueError(f"{field} is {brief(repr(text))}, not a text of up to {MAX_TEXT} characters")
        if not value["title"]:
            raise ValueError("title is empty")
        if fault := name_fault(value["name"]):
            raise ValueError(f"name {fault}")
        stride = value["stride"]
        if isinstance(stride, bool) or not isinstance(stride, int) or not 1 <= stride <= MAX_STRIDE:
            raise ValueError(f"stride is {brief(repr(stride))}, not 1 to {MAX_STRIDE}")
        _check_path(value["path"])
        return cls(**value)


def _check_path(path: Any) -> None:
    if path is None:
        return
    if not isinstance(path, str) or not path or len(path) > MAX_TEXT:
        raise ValueError(f"path is {brief(repr(path))}, not a path below the folder")
    for part in path.split("/"):
        if fault := name_fault(part):
            raise ValueError(f"path {brief(path)}: a part of it {fault}")
    if PurePosixPath(path).is_absolute():
        raise ValueError(f"path {brief(path)}: not below the folder")


def write_artefacts(path: Path, artefacts: Sequence[Artefact]) -> None:
    """Write a list of artefacts as a JSON file, unless it holds that list already."""
    wanted = [artefact.to_json() for artefact in artefacts]
    if not path.exists() or read_artefacts(path) != list(artefacts):
        write_json(path, wanted)


def read_artefacts(path: Path) -> list[Artefact]:
    """Return the list in a file of `write_artefacts`; none without the file.

    Raises:
        DataError: the file is damaged.
    """
    if not path.is_file():
        return []

    def check(entries: Any) -> None:
        for entry in entries:
            Artefact.from_json(entry)

    entries = read_json(path, list, "delete it and run the same command again", check=check)
    return [Artefact.from_json(entry) for entry in entries]
