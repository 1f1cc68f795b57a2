"""Valid clips, datasets and multiview folders, and who reads them."""

import os
import shutil
from pathlib import Path

import numpy as np
import valid
from PIL import Image

# ---- clips and pictures ----


def make_video(name: str, codec: str, pix_fmt: str, folder: Path, shared: Path) -> None:
    """With masks where the format has no alpha."""
    valid.video(folder / name, codec, pix_fmt)
    if pix_fmt in ("yuv420p", "rgb8"):
        valid.balls(folder / "masks", kind="mask")


def read_video(folder: Path) -> None:
    from mvtokenflow.media.video import count_frames, read_clip

    (path,) = folder.glob("clip.*")
    masks = folder / "masks"
    read_clip(path, masks if masks.is_dir() else None, stop=count_frames(path))


def make_clip(folder: Path, shared: Path) -> None:
    valid.balls(folder / "clip")


def read_clip(folder: Path) -> None:
    from mvtokenflow.media.video import count_frames, read_clip

    read_clip(folder / "clip", stop=count_frames(folder / "clip"))


def make_masked(folder: Path, shared: Path) -> None:
    valid.balls(folder / "clip", kind="rgb")
    valid.balls(folder / "masks", kind="mask")


def read_masked(folder: Path) -> None:
    from mvtokenflow.media.video import read_clip

    read_clip(folder / "clip", folder / "masks")


def make_jpeg(folder: Path, shared: Path) -> None:
    valid.balls(folder / "masks", kind="mask")
    (folder / "clip").mkdir()
    for n in range(valid.FRAMES):
        picture = Image.fromarray(valid.ball(n)[..., :3])
        picture.save(folder / "clip" / f"{n}.jpg", quality=90, exif=Image.Exif())


def make_mask_video(folder: Path, shared: Path) -> None:
    valid.balls(folder / "clip", kind="rgb")
    valid.video(folder / "masks.mp4", "libx264", "yuv420p", mask=True)


def read_mask_video(folder: Path) -> None:
    from mvtokenflow.media.video import read_clip

    read_clip(folder / "clip", folder / "masks.mp4")


def read_segmented(folder: Path) -> None:
    """The masks that `mvtf run --segment` left, read instead of made."""
    from mvtokenflow.media.segment import cut_out
    from mvtokenflow.media.video import read_opaque

    cut_out(read_opaque(folder / "clip").pictures, folder / "masks", None, "clip")


def make_segmented(folder: Path, shared: Path) -> None:
    from mvtokenflow.media.segment import mask_paths

    make_masked(folder, shared)
    for before, after in zip(
        sorted((folder / "masks").iterdir()), mask_paths(folder / "masks", valid.FRAMES), strict=True
    ):
        before.rename(after)


def read_scene(folder: Path) -> None:
    """A clip with reference views, as a dataset: its pictures are kept in the cache."""
    from mvtokenflow.datasets.catalogue import open_dataset

    dataset = open_dataset(str(folder / "scenes"))
    for name in dataset.scene_names():
        dataset.scene(name).clip()


def make_scene(folder: Path, shared: Path) -> None:
    shutil.copytree(valid.scored_runs(shared) / "scenes", folder / "scenes")


def make_cached_scene(folder: Path, shared: Path) -> None:
    make_scene(folder, shared)
    os.environ["MVTF_CACHE"] = str(folder / "cache")
    read_scene(folder)


def make_truth(folder: Path, shared: Path) -> None:
    """Of the sizes that the benchmark's files have, and no others."""
    from mvtokenflow.datasets.toy4d.scenes import FRAMES, SIZE

    np.savez_compressed(
        folder / "input.npz",
        flow=np.zeros((FRAMES - 1, SIZE, SIZE, 2), np.float32),
        visible=np.ones((FRAMES - 1, SIZE, SIZE), np.bool_),
        normal=np.zeros((FRAMES, SIZE, SIZE, 3), np.float16),
        depth=np.ones((FRAMES, SIZE, SIZE), np.float32),
    )


def read_truth(folder: Path) -> None:
    from mvtokenflow.datasets.scene import TruthFile
    from mvtokenflow.datasets.toy4d.dataset import truth_forms
    from mvtokenflow.datasets.toy4d.scenes import TOY4D

    TruthFile(folder / "input.npz", forms=truth_forms(TOY4D))()


# ---- multiview folders ----


def make_views(folder: Path, shared: Path) -> None:
    shutil.copytree(valid.view_folder(shared), folder / "views")


def make_masked_views(folder: Path, shared: Path) -> None:
    from mvtokenflow.media.pictures import composite_white, read_rgba, write_png

    shutil.copytree(valid.view_folder(shared), folder / "views", ignore=shutil.ignore_patterns("normals"))
    for path in sorted((folder / "views").glob("view_*/*.png")):
        rgba = read_rgba(path)
        write_png(folder / "views" / "masks" / path.parent.name / path.name, rgba[..., 3])
        write_png(path, composite_white(rgba))


def read_views(folder: Path) -> None:
    from mvtokenflow.views.folder import read_multiview

    read_multiview(folder / "views")


def read_named_cameras(folder: Path) -> None:
    from mvtokenflow.views.folder import read_multiview

    read_multiview(folder / "views", str(folder / "views" / "cameras.json"))
