"""The datasets of toys: named scenes in the Consistent4D layout, generated on first use.

Every camera is orthographic with half-width 1 at elevation 0, the input as well as the evaluation views:
the multiview prior is trained on this projection and generates its views in it, so the input video and the
references use the prior's projection, and scores measure the method rather than a mismatch of cameras.

`toy4d-pinhole` is the same toys at the same times and azimuths through pinhole cameras of 49.1 degrees, as
Consistent4D's pictures are assumed to be: the difference to `toy4d` is the cost of perspective. `toy4d-wild`
has other toys (`scenes`). The `-views` and `-matrix` worlds have the same clips and look at the toys from
elsewhere, at other times: as the small prior generates them, and from all around.

Files below `<root>/<dataset>-<hash>/<scene>/`:

* `eval_<i>/<n>.png` RGB on white, `input/<n>.png` RGBA with straight alpha
* `truth/<view>.npz` flow and depth float32, normal float16, visible bool, as in `scene.GroundTruth`
* `scene.json` digests; written last, so that an interrupted generation is finished on the next use

Several processes may generate one scene at once: every file is replaced atomically by equal content.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mvtokenflow.base.damaged import Form, damage, read_json
from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import (
    atomic_path,
    cache_root,
    choose,
    digest,
    frame_files,
    write_bytes,
    write_json,
)
from mvtokenflow.datasets.scene import GroundTruth, Scene, TruthFile, View
from mvtokenflow.datasets.toy4d.render import Render, render, render_flow
from mvtokenflow.datasets.toy4d.scenes import (
    PINHOLE,
    SAMPLES,
    TOY4D,
    TOY4D_MATRIX,
    TOY4D_VIEWS,
    WILD,
    WILD_MATRIX,
    WILD_VIEWS,
    World,
    scene_toy,
)
from mvtokenflow.datasets.toy4d.surface import on_outside, sample_surface
from mvtokenflow.datasets.toy4d.toys import HELD_OUT_PLAN
from mvtokenflow.datasets.toy4d.wild import WILD_PLANS
from mvtokenflow.media.video import Clip

HELD_OUT_TAG = "held-out-plan"
UNSEEN_PLANS = (HELD_OUT_PLAN, *WILD_PLANS)
SURFACE_POINTS = 8192  # on all parts; a third to a half of them lie inside other parts

Pixels = dict[str, NDArray[np.uint8]]


def _bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return (values.astype(np.float64) * 255 + 0.5).astype(np.uint8)


def _pixels(picture: Render, views: Iterable[str]) -> Pixels:
    out: Pixels = {}
    for v, view in enumerate(views):
        rgb, alpha = picture.rgb[:, v], picture.alpha[:, v]
        if view == "input":
            out[view] = _bytes(np.concatenate((rgb, alpha), -1))
        else:
            out[view] = _bytes(rgb * alpha + (1 - alpha))
    return out


def render_benchmark(name: str, world: World) -> tuple[Pixels, dict[str, GroundTruth]]:
    """Render the content of a scene's files, by view.

    Returns:
        decoded pixels (T, S, S, C) uint8, C = 4 for the input, and the exact geometry, if it has files.
    """
    toy, cameras, times = scene_toy(name), world.cameras(), world.times
    picture = render(toy, cameras, times, samples=SAMPLES)
    pixels = _pixels(picture, world.views)
    if not world.geometry:
        return pixels, {}
    motion = render_flow(toy, cameras, times[:-1], times[1:])
    truth = {
        view: GroundTruth(
            flow=motion.flow[:, v],
            visible=motion.visible[:, v],
            normal=picture.normal[:, v],
            depth=picture.depth[:, v],
        )
        for v, view in enumerate(world.views)
    }
    return pixels, truth


def pixel_digest(pixels: Pixels) -> str:
    """Compute the sha256, in hex, of all frames of all views, with view names."""
    return digest(
        (f"{view}/{n}", np.ascontiguousarray(frame).tobytes())
        for view, frames in pixels.items()
        for n, frame in enumerate(frames)
    )


def truth_digest(truth: Mapping[str, GroundTruth]) -> str:
    """Compute the sha256, in hex, of the arrays as stored (little-endian, normals as float16)."""
    return digest(
        (f"{view}/{key}", np.ascontiguousarray(array).tobytes())
        for view, geometry in truth.items()
        for key, array in _stored(geometry).items()
    )


def _stored(truth: GroundTruth) -> dict[str, NDArray[np.generic]]:
    """Convert ground truth to the stored types.

    Flow needs float32 (float16 is off by 0.002 px at 4 px); float16 turns a normal by 0.03° at most.
    """
    return {
        "flow": truth.flow.astype("<f4"),
        "visible": truth.visible,
        "normal": truth.normal.astype("<f2"),
        "depth": truth.depth.astype("<f4"),
    }


class Toy4D:
    """The dataset `toy4d`; a scene is generated when it is first requested.

    Args:
        root: folder for generated scenes; default `cache_root()`.

    Attributes:
        world: its scenes, cameras and digests.
    """

    name = TOY4D.name
    world = TOY4D

    def __init__(self, root: Path | None = None) -> None:
        self.root = _world_folder(cache_root() if root is None else root, self.world)

    def scene_names(self) -> Sequence[str]:
        """Return the names plan by plan; in `toy4d` the held-out plan comes last."""
        return tuple(self.world.scenes)

    def scene(self, name: str) -> Scene:
        """Return a scene; generates its files (seconds) unless `scene.json` marks them as complete.

        Raises:
            ConfigError: no such scene.
            DataError: `scene.json` is damaged.
            OSError: the cache cannot be written.
        """
        plan, _ = choose(f"{self.name} scene", name, self.world.scenes)
        folder = _generated(self.root, name, self.world)
        cameras = self.world.cameras()
        views = [
            View(
                name=view,
                azimuth_deg=azimuth,
                elevation_deg=0.0,
                cameras=cameras[k],
                frames=[folder / view / f"{n}.png" for n in range(len(self.world.times))],
                truth=_truth_file(folder, view, self.world) if self.world.geometry else None,
            )
            for k, (view, azimuth) in enumerate(self.world.views.items())
        ]
        tags = {plan, HELD_OUT_TAG} if plan in UNSEEN_PLANS else {plan}
        filmed = self.world.filmed
        if filmed is None:
            clip: Callable[[], Clip] = _ClipFolder(folder / "input", name, self.world)
        else:
            clip = _Filmed(self.root.parent, name, filmed)
        return Scene(
            name=name,
            clip=clip,
            input=views[0],
            views=views[1:],
            root=folder,
            tags=frozenset(tags),
            content=_written(folder)["pixels"],
            clock=None if filmed is None else self.world.times,
            filmed=None if filmed is None else filmed.cameras()[0:1],
            surface=partial(_surface_file, folder, name, self.world) if self.world.geometry else None,
        )

    def verify(self, name: str) -> None:
        """Compare the digests of a scene's files with `scene.json` and the committed table.

        Raises:
            ConfigError: no such scene.
            DataError: files are missing, damaged, or not those of the benchmark.
        """
        choose(f"{self.name} scene", name, self.world.scenes)
        folder = self.root / name
        advice = _advice(folder)
        written = _written(folder)
        pixels = {view: _read_frames(folder / view, self.world) for view in self.world.views}
        truth = {
            view: _truth_file(folder, view, self.world)() for view in self.world.views if self.world.geometry
        }
        found = {"pixels": pixel_digest(pixels), "truth": truth_digest(truth)}
        for kind, value in found.items():
            if value != written[kind]:
                raise DataError(f"{folder}: the {kind} on disk are not what was generated; {advice}")
        if found != self.world.digests[name]:
            raise DataError(
                f"{folder}: this machine's arithmetic gave other digests than the benchmark's reference; "
                "numbers on this scene are not comparable, copy the folder from another machine"
            )


class Toy4DPinhole(Toy4D):
    """The dataset `toy4d-pinhole`."""

    name = PINHOLE.name
    world = PINHOLE


class Toy4DWild(Toy4D):
    """The dataset `toy4d-wild`."""

    name = WILD.name
    world = WILD


class Toy4DViews(Toy4D):
    """The dataset `toy4d-views`: the clips of `toy4d` and the truth of the views that the prior generates."""

    name = TOY4D_VIEWS.name
    world = TOY4D_VIEWS


class Toy4DWildViews(Toy4D):
    """The dataset `toy4d-wild-views`."""

    name = WILD_VIEWS.name
    world = WILD_VIEWS


class Toy4DMatrix(Toy4D):
    """The dataset `toy4d-matrix`: the clips of `toy4d`, and 21 views all around at 21 times."""

    name = TOY4D_MATRIX.name
    world = TOY4D_MATRIX


class Toy4DWildMatrix(Toy4D):
    """The dataset `toy4d-wild-matrix`."""

    name = WILD_MATRIX.name
    world = WILD_MATRIX


def _world_folder(root: Path, world: World) -> Path:
    return root / f"{world.name}-{world.hash}"


def _generated(root: Path, name: str, world: World) -> Path:
    """Return the folder of a scene in its world's, generated unless `scene.json` marks it as complete."""
    folder = root / name
    if not (folder / "scene.json").exists():
        _generate(name, folder, world)
    return folder


def _generate(name: str, folder: Path, world: World) -> None:
    toy, expected = scene_toy(name), world.digests[name]
    pixels, truth = render_benchmark(name, world)
    for view in world.views:
        for n, frame in enumerate(pixels[view]):
            buffer = BytesIO()
            Image.fromarray(frame).save(buffer, "png")
            write_bytes(folder / view / f"{n}.png", buffer.getvalue())
        if view not in truth:
            continue
        with atomic_path(folder / "truth" / f"{view}.npz") as temporary:
            arrays = _stored(truth[view])
            np.savez_compressed(
                temporary,
                flow=arrays["flow"],
                visible=arrays["visible"],
                normal=arrays["normal"],
                depth=arrays["depth"],
            )
    found = {"pixels": pixel_digest(pixels), "truth": truth_digest(truth)}
    if found != expected:
        warnings.warn(
            f"{world.name} scene {name}: digests {found} are not the reference {expected}; this machine's "
            "arithmetic differs and numbers on this scene are not comparable with others'",
            stacklevel=3,
        )
    record = {"scene": name, "plan": toy.plan, "seed": toy.seed, "caption": toy.caption, "yaw_deg": toy.yaw_deg}
    write_json(folder / "scene.json", {**record, **found})


def _surface_file(folder: Path, name: str, world: World) -> Path:
    """Return the file of points on a scene's exact surface, written on first use.

    It follows from the toy alone and is not among the digests.
    """
    path = folder / "truth" / "surface.npz"
    if not path.exists():
        toy = scene_toy(name)
        surface = sample_surface(toy, SURFACE_POINTS)
        with atomic_path(path) as temporary:
            np.savez_compressed(
                temporary,
                points=surface.positions(toy, world.times).astype("<f4"),
                outside=on_outside(toy, surface, world.times),
            )
    return path


def _truth_file(folder: Path, view: str, world: World) -> TruthFile:
    return TruthFile(folder / "truth" / f"{view}.npz", f"delete {folder}", truth_forms(world))


def truth_forms(world: World) -> dict[str, Form]:
    """Return kind and shape of each array in a world's files of exact geometry."""
    frames, size = len(world.times), world.size
    return {
        "flow": Form("f", (frames - 1, size, size, 2)),
        "visible": Form("b", (frames - 1, size, size)),
        "normal": Form("f", (frames, size, size, 3)),
        "depth": Form("f", (frames, size, size)),
    }


def _advice(folder: Path) -> str:
    return f"delete the folder {folder} and use the scene again to generate it anew"


def _written(folder: Path) -> dict[str, str]:
    """Read the digests of a generated scene, `pixels` and `truth`, from its `scene.json`."""
    path = folder / "scene.json"
    record = read_json(path, dict, _advice(folder), "cannot be read", check=_digests)
    return _digests(record)


def _digests(record: Mapping[str, Any]) -> dict[str, str]:
    return {kind: str(record[kind]) for kind in ("pixels", "truth")}


def _read_frames(folder: Path, world: World) -> NDArray[np.uint8]:
    """Read the pictures (T, S, S, C) of a generated view."""
    paths = frame_files(folder)
    frames = []
    for path in paths:
        with damage(path, "not a readable picture", f"delete {folder.parent}"), Image.open(path) as picture:
            frames.append(np.asarray(picture))
    shapes = {frame.shape for frame in frames}
    if len(frames) != len(world.times) or len(shapes) != 1:
        raise DataError(f"{folder}: holds {len(frames)} frames of sizes {shapes}; delete {folder.parent}")
    return np.stack(frames)


class _ClipFolder:
    """Loads the input clip; a class, so that a scene can be sent to another process."""

    def __init__(self, folder: Path, name: str, world: World) -> None:
        self.folder, self.name, self.world = folder, name, world

    def __call__(self) -> Clip:
        rgba = torch.from_numpy(_read_frames(self.folder, self.world).astype(np.float32) / 255)
        return Clip(rgb=rgba[..., :3], alpha=rgba[..., 3:], name=self.name)


class _Filmed:
    """Loads the clip of a scene of another world, which is generated where it is not there yet."""

    def __init__(self, root: Path, name: str, world: World) -> None:
        self.root, self.name, self.world = root, name, world

    def __call__(self) -> Clip:
        folder = _generated(_world_folder(self.root, self.world), self.name, self.world)
        return _ClipFolder(folder / "input", self.name, self.world)()
