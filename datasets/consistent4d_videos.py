"""All input videos of Consistent4D that are found, scored on the input view (the paper's tables 1 and 3).

The download holds folders of frames, `synthetic/<name>/<n>.png` and `in-the-wild/<name>/<n>.png`. The paper
counts 12 of each and names none; no public list is known, so no number and no name is assumed.
`NAMED` are those that public code and papers name, so that missing ones can be listed.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import choose
from mvtokenflow.datasets.consistent4d import (
    CAMERA,
    INSTRUCTIONS,
    OBJECTS,
    ROOT_VARIABLE,
    VIDEOS_VARIABLE,
    assumptions,
    given_folder,
    seen,
    videos_folder,
)
from mvtokenflow.datasets.layout import AZIMUTHS_DEG
from mvtokenflow.datasets.scene import Scene, View
from mvtokenflow.media.pictures import picture_size
from mvtokenflow.media.video import read_clip

STATED = 24  # in the paper: 12 synthetic ones and 12 in the wild
NAMED: Mapping[str, str] = {
    **dict.fromkeys(OBJECTS, "test set"),
    **dict.fromkeys(
        ("blooming_rose", "pecking_blue_jay", "roaring_t-rex"), "demo of Consistent4D's repository"
    ),
    **dict.fromkeys(("dancing_spiderman", "flying_ironman"), "SC4D"),
    "minions": "STAG4D",
    "triceratops": "MVTokenFlow",
}

_REFERENCES = ("test_dataset", "eval_gt")  # pictures of other views, not input videos
_READ = "the videos are those found in the download; which 24 the paper means is not stated"


class Consistent4DVideos:
    """The dataset `consistent4d-videos`.

    A folder of frames up to two levels below `root` is a scene of its name, tagged by the folder it lies in.

    Args:
        root: default `$MVTF_CONSISTENT4D_VIDEOS`, else beside the test set, `$MVTF_CONSISTENT4D`.
    """

    name = "consistent4d-videos"

    def __init__(self, root: Path | None = None) -> None:
        self._root = root

    def scene_names(self) -> Sequence[str]:
        """Return the names of the videos found, sorted.

        Raises:
            DataError: no folder given, no video in it, or two of one name.
        """
        return sorted(self._found())

    def scene(self, name: str) -> Scene:
        """Return a video as a scene; its evaluation views are rendered but have no reference.

        Raises:
            DataError: as `scene_names`; also a stray file among the frames, or a first frame that is no PNG.
            ConfigError: no such video here.
        """
        folder = choose("video", name, self._found())
        taken = seen("input", 0.0, folder, CAMERA)
        size = picture_size(taken.frames[0])
        views = [
            View(
                name=view, azimuth_deg=azimuth, elevation_deg=0.0, cameras=CAMERA.at(azimuth, *size), frames=()
            )
            for view, azimuth in AZIMUTHS_DEG.items()
        ]
        return Scene(
            name=name,
            clip=partial(read_clip, folder, name=name),
            input=taken,
            views=views,
            root=folder,
            tags=frozenset({folder.parent.name}),
            assumed=(*assumptions(CAMERA), _READ),
        )

    def coverage(self) -> str:
        """Return what is here and what is known to be missing, for people."""
        found = self._found()
        groups: dict[str, list[str]] = {}
        for name, folder in sorted(found.items()):
            groups.setdefault(folder.parent.name, []).append(name)
        here = "; ".join(f"{group}: {', '.join(names)}" for group, names in sorted(groups.items()))
        missing = [f"{name} ({source})" for name, source in NAMED.items() if name not in found]
        lacks = f" Named in public and not here: {', '.join(missing)}." if missing else ""
        return f"{len(found)} videos, of {STATED} that the paper states and does not name. {here}.{lacks}"

    def _found(self) -> dict[str, Path]:
        """Find folders of frames, by name."""
        base = self._base()
        found: dict[str, Path] = {}
        for pattern in ("*", "*/*"):
            for folder in sorted(base.glob(pattern)):
                if not _is_video(folder, base):
                    continue
                if folder.name in found:
                    raise DataError(
                        f"{folder}: a second video named '{folder.name}' beside {found[folder.name]}; set "
                        f"{VIDEOS_VARIABLE} to the folder of one"
                    )
                found[folder.name] = folder
        if not found:
            raise DataError(f"{base}: no folder of frames <n>.png up to two levels below it\n{INSTRUCTIONS}")
        return found

    def _base(self) -> Path:
        videos, root = given_folder(self._root, VIDEOS_VARIABLE), given_folder(None, ROOT_VARIABLE)
        if videos is None and root is None:
            raise DataError(f"{self.name}: no folder given and {VIDEOS_VARIABLE} is not set\n{INSTRUCTIONS}")
        return videos_folder(root or Path(), videos)


def _is_video(folder: Path, base: Path) -> bool:
    """Return whether a folder holds frames and is neither a reference view, a mask nor hidden."""
    parts = folder.relative_to(base).parts
    if any(part.startswith((".", "eval_")) or part in _REFERENCES for part in parts) or "_mask" in folder.name:
        return False
    return folder.is_dir() and any(entry.stem.isdecimal() for entry in folder.glob("*.png"))
