"""Multiview folders: what is written is read back, every layout, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.media.pictures import write_png
from mvtokenflow.views.cameras import orbit
from mvtokenflow.views.folder import (
    MultiviewVideo,
    ViewFlow,
    named_cameras,
    read_multiview,
    write_multiview,
)
from mvtokenflow.views.video import FrontVideo

VIEWS, FRAMES, SIZE = 6, 3, 16


def made(frames: int = FRAMES, *, extras: bool = True) -> MultiviewVideo:
    """Six views of a disc whose colour names frame and view; values are multiples of 1/255."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    disc = ((x - 8) ** 2 + (y - 8) ** 2 < 36).float()
    alpha = disc[None, None, ..., None].expand(frames, VIEWS, SIZE, SIZE, 1).contiguous()
    colour = torch.randint(0, 256, (frames, VIEWS, 1, 1, 3), generator=generator) / 255
    normals = (
        torch.nn.functional.normalize(torch.randn(*alpha.shape[:4], 3, generator=generator), dim=-1) * alpha
    )
    flow = ViewFlow.forward(
        0,
        torch.randn(frames - 1, SIZE, SIZE, 2, generator=generator),
        disc.bool().expand(frames - 1, SIZE, SIZE).contiguous(),
    )
    return MultiviewVideo(
        rgb=torch.where(alpha > 0, colour, 1.0),
        alpha=alpha,
        cameras=named_cameras("era3d", SIZE),
        normals=normals if extras else None,
        flow=flow if extras else None,
    )


def test_a_written_folder_is_read_back(tmp_path: Path) -> None:
    video = made()
    write_multiview(tmp_path / "mv", video)
    back = read_multiview(tmp_path / "mv")
    assert torch.equal(back.rgb, video.rgb)
    assert torch.equal(back.alpha, video.alpha)
    assert torch.equal(back.cameras.world_to_camera, video.cameras.world_to_camera)
    assert back.flow is not None
    assert video.flow is not None
    assert torch.equal(back.flow.flow, video.flow.flow)
    assert torch.equal(back.flow.visible, video.flow.visible)
    assert back.normals is not None
    assert video.normals is not None
    # 8 bits: half a level of 2/255 per axis
    assert (back.normals - video.normals).abs().max() < 0.008
    with pytest.raises(DataError, match="not empty"):
        write_multiview(tmp_path / "mv", video)


def test_flow_between_any_frames_is_kept_and_files_without_pairs_go_from_frame_to_frame(tmp_path: Path) -> None:
    video = made()
    assert video.flow is not None
    assert video.flow.pairs == ((0, 1), (1, 2))
    chosen = replace(video.flow, pairs=((2, 0), (0, 1)))
    write_multiview(tmp_path / "mv", replace(video, flow=chosen))
    back = read_multiview(tmp_path / "mv").flow
    assert back is not None
    assert back.pairs == ((2, 0), (0, 1))
    assert torch.equal(back.flow, chosen.flow)
    assert replace(video, flow=chosen).digest() != video.digest()
    two = replace(video, flow=chosen).head(2).flow
    assert two is not None
    assert two.pairs == ((0, 1),)
    assert torch.equal(two.flow[0], chosen.flow[1])
    assert video.head(1).flow is None
    path = tmp_path / "mv" / "flow.npz"
    with np.load(path) as held:
        arrays: dict[str, Any] = dict(held)
    del arrays["pairs"]
    np.savez(path, **arrays)
    older = read_multiview(tmp_path / "mv").flow
    assert older is not None
    assert older.pairs == ((0, 1), (1, 2))
    assert torch.equal(older.flow, chosen.flow)


def test_pairs_and_front_videos_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    video = made()
    assert video.flow is not None
    for pairs in (((0, 1), (1, 3)), ((0, 1), (1, 1)), ((0, 1), (0, 1)), ((0, 1),)):
        with pytest.raises(ValueError, match="video: flow"):
            replace(video, flow=replace(video.flow, pairs=pairs))
    front = FrontVideo(
        view=0, rgb=video.rgb[:, 0], alpha=video.alpha[:, 0], camera=video.cameras[:1], times=video.times
    )
    for change, message in (
        ({"camera": video.cameras[:2]}, "2 cameras"),
        ({"times": torch.tensor([0.0, 0.5, 0.5])}, "increasing"),
        ({"times": torch.tensor([0.0, 0.5, 1.5])}, r"in \[0, 1\]"),
        ({"alpha": video.alpha[:2, 0]}, "alpha"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(front, **change)
    with pytest.raises(ValueError, match="front video is of view 1"):
        replace(video, front=replace(front, view=1))
    whole = replace(video, front=front)
    assert whole.digest() != video.digest()
    assert whole.digest() != replace(video, front=replace(front, rgb=front.rgb / 2)).digest()
    with pytest.raises(ValueError, match="front video"):
        write_multiview(tmp_path / "mv", whole)
    with pytest.raises(ValueError, match="front video"):
        whole.head(2)


def test_times_are_kept_to_the_last_bit(tmp_path: Path) -> None:
    clock = torch.tensor([0, 2, 31], dtype=torch.float32) / 31
    write_multiview(tmp_path / "mv", replace(made(), clock=clock))
    back = read_multiview(tmp_path / "mv")
    assert back.clock is not None
    assert torch.equal(back.times, clock)
    assert back.digest() == replace(back, clock=clock).digest()
    (tmp_path / "mv" / "times.json").unlink()
    assert read_multiview(tmp_path / "mv").times.tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[0, 1]", "[0, 0.5, 0.5]", "[0, 0.5, 1.5]", "[0, NaN, 1]", '[0, "a", 1]', "[[0], [1], [2]]"],
)
def test_times_that_do_not_fit_are_refused(tmp_path: Path, text: str) -> None:
    write_multiview(tmp_path / "mv", made())
    (tmp_path / "mv" / "times.json").write_text(text)
    with pytest.raises(DataError, match=r"times\.json: "):
        read_multiview(tmp_path / "mv")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("view", np.zeros(2, int), r"view is \(2\) of int64"),
        ("view", np.array("x"), r"view is \(\) of <U1, expected \(\) of whole numbers"),
        ("view", np.array(0.5), r"view is \(\) of float64"),
        ("pairs", np.array([[0.0, 1.0], [1.0, 2.0]]), r"pairs is \(2, 2\) of float64, .* of whole numbers"),
        ("pairs", np.array([0, 1]), r"pairs is \(2\) of int64, expected \(n, 2\)"),
        ("pairs", np.array([[0, 1], [1, 3]]), "frames of 0 to 2"),
        ("pairs", np.array([[0, 1], [1, 1]]), "different frames"),
        ("pairs", np.array([[0, 1], [0, 1]]), "different pairs"),
        ("pairs", np.array([[0, 1]]), r"flow is \(2, .*\) of .*, expected \(1, "),
        (
            "flow",
            np.zeros((FRAMES - 1, SIZE, SIZE, 2), np.int16),
            r"flow is \(.*\) of int16, expected \(.*\) of floats",
        ),
        ("visible", np.full((FRAMES - 1, SIZE, SIZE), "yes"), r"visible is \(.*\) of <U3"),
    ],
)
def test_flow_of_another_kind_is_refused(tmp_path: Path, name: str, value: NDArray[Any], message: str) -> None:
    write_multiview(tmp_path / "mv", made())
    path = tmp_path / "mv" / "flow.npz"
    with np.load(path) as held:
        arrays: dict[str, Any] = dict(held)
    np.savez(path, **arrays | {name: value})
    with pytest.raises(DataError, match=message) as raised:
        read_multiview(tmp_path / "mv")
    assert str(path) in str(raised.value)


def test_orthographic_cameras_are_moved_back_before_the_object() -> None:
    video = made()
    for extent in (0.5, 1.0, 1.5):  # the published cameras stand far enough away, to the last bit
        assert video.with_room(extent).digest() == video.digest()
    poses = video.cameras.world_to_camera.clone()
    poses[:, 2, 3] = torch.tensor([0.0, 0.5, -3.0, 1.0, 2.0, 7.0])
    near = replace(video, cameras=replace(video.cameras, world_to_camera=poses))
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    assert near.cameras.project(corners)[1].min() < 0
    moved = near.with_room(1.0).cameras
    assert moved.project(corners)[1].min() > 0.1
    assert torch.equal(moved.project(corners)[0], near.cameras.project(corners)[0])
    assert moved.world_to_camera[-1, 2, 3] == 7.0
    pinhole = replace(near, cameras=replace(near.cameras, kind="pinhole"))
    assert pinhole.with_room(1.0).digest() == pinhole.digest()


def test_folders_of_frames_and_bare_numbers_are_detected(tmp_path: Path) -> None:
    video = made(extras=False)
    write_multiview(tmp_path / "mv", video)
    for name, layout in (
        ("frames", "frame_{n}/{k}.png"),
        ("bare", "{n}/{k}.png"),
        ("bare views", "{k}/{n}.png"),
    ):
        for n in range(FRAMES):
            for k in range(VIEWS):
                target = tmp_path / name / layout.format(n=n + 4, k=k)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes((tmp_path / "mv" / f"view_{k}" / f"{n}.png").read_bytes())
        assert torch.equal(read_multiview(tmp_path / name, "era3d").rgb, video.rgb), name


def test_as_many_frames_as_views_need_telling_names(tmp_path: Path) -> None:
    video = made(VIEWS, extras=False)
    write_multiview(tmp_path / "mv", video)
    assert torch.equal(read_multiview(tmp_path / "mv", "era3d").rgb, video.rgb)
    for k in range(VIEWS):
        (tmp_path / "mv" / f"view_{k}").rename(tmp_path / "mv" / str(k))
    with pytest.raises(DataError, match="could be views or frames"):
        read_multiview(tmp_path / "mv", "era3d")


def test_masks_and_white_backgrounds_give_alpha(tmp_path: Path) -> None:
    video = made(extras=False)
    rgb = (video.rgb * 255).round().numpy().astype(np.uint8)
    rgb[..., 8, 8, :] = 255  # a white spot inside the object is not background
    for k in range(VIEWS):
        for n in range(FRAMES):
            for folder in ("white", "masked"):
                write_png(tmp_path / folder / f"view_{k}" / f"{n}.png", rgb[n, k])
            write_png(
                tmp_path / "masked" / "masks" / f"view_{k}" / f"{n}.png", video.alpha[n, k, ..., 0].numpy()
            )
    for folder in ("white", "masked"):
        assert torch.equal(read_multiview(tmp_path / folder, "era3d").alpha, video.alpha), folder


def test_binary_alpha_clears_a_background_that_is_not_zero(tmp_path: Path) -> None:
    video = made(extras=False)
    write_multiview(tmp_path / "mv", replace(video, alpha=video.alpha.clamp_min(1 / 255)))
    with pytest.raises(DataError, match="--binary-alpha"):
        read_multiview(tmp_path / "mv")
    assert torch.equal(read_multiview(tmp_path / "mv", binary_alpha=True).alpha, video.alpha)


def test_resizing_keeps_flow_in_pixels_and_normals_unit() -> None:
    video = made()
    assert video.flow is not None
    constant = replace(video, flow=replace(video.flow, flow=torch.full_like(video.flow.flow, 3.0)))
    small = constant.resized(8)
    assert small.rgb.shape == (FRAMES, VIEWS, 8, 8, 3)
    assert small.flow is not None
    assert torch.equal(
        small.flow.flow[small.flow.visible], torch.full_like(small.flow.flow[small.flow.visible], 1.5)
    )
    assert small.flow.visible.any()
    assert small.normals is not None
    length = small.normals.norm(dim=-1)
    assert torch.all((length < 1e-6) | ((length - 1).abs() < 1e-5))
    # a world point lands on the same relative place
    point = torch.tensor([[0.3, -0.2, 0.4]])
    assert torch.allclose(small.cameras.project(point)[0] * 2, video.cameras.project(point)[0], atol=1e-5)
    # colour is averaged over the object only: no white bleeds in
    inside = small.alpha[..., 0] > 0
    colour = video.rgb[:, :, 8, 8][:, :, None, None].expand_as(small.rgb)
    assert torch.allclose(small.rgb[inside], colour[inside], atol=1e-5)
    with pytest.raises(DataError, match="cannot become"):
        video.resized(32)


def test_the_digest_follows_what_matters() -> None:
    video = made()
    assert video.flow is not None
    assert video.digest() == replace(made(), name="other").digest()
    other = [
        replace(video, rgb=video.rgb * 0.5),
        replace(video, normals=None),
        replace(video, flow=replace(video.flow, view=1)),
        replace(video, cameras=orbit([0, 45, 90, 180, 270, 300], size=SIZE, kind="ortho", radius=3)),
        video.head(2),
    ]
    assert len({video.digest(), *(v.digest() for v in other)}) == 6
    assert video.head(2).digest() == made().head(2).digest()


def test_cameras_by_name_or_file(tmp_path: Path) -> None:
    path = tmp_path / "cameras.json"
    path.write_text(json.dumps(named_cameras("zero123plus", 32).to_dict()))
    assert torch.equal(named_cameras(str(path), 7).intrinsics, named_cameras("zero123plus", 32).intrinsics)
    with pytest.raises(ConfigError, match="era3d, zero123plus"):
        named_cameras("era", 32)
    path.write_text("[1]")
    with pytest.raises(DataError, match="holds a list, not an object"):
        named_cameras(str(path), 32)
    with pytest.raises(DataError, match="no such file"):
        named_cameras(str(tmp_path / "none.json"), 32)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing frame", r"view_2/1\.png: missing"),
        ("missing view", "do not fit 6 cameras"),
        ("size", "8x8 with 4 channels"),
        ("kind", "with 3 channels"),
        ("corrupt", "truncated PNG"),
        ("stray", "notes: not a folder"),
        ("mixed", "mixes names"),
        ("empty alpha", "alpha is 0 everywhere"),
        ("flow shape", r"flow is \(9, 16, 16, 2\) of float64, expected \(2, 16, 16, 2\) of floats"),
        ("flow file", "not a flow file"),
        ("flow nan", "NaN"),
        ("normals", "no normal has a length near 1"),
        ("normal frames", "do not fit 6 cameras|for 3 frames"),
        ("masks", "alpha of their own"),
        ("no cameras", "name the cameras"),
        ("camera size", "cameras of 32x32"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, damage: str, message: str) -> None:
    folder = tmp_path / "mv"
    write_multiview(folder, made())
    picture = folder / "view_2" / "1.png"
    rgba = np.asarray(Image.open(picture))
    if damage == "missing frame":
        picture.unlink()
    elif damage == "missing view":
        for path in (folder / "view_5").iterdir():
            path.unlink()
        (folder / "view_5").rmdir()
    elif damage == "size":
        write_png(picture, rgba[:8, :8])
    elif damage == "kind":
        write_png(picture, rgba[..., :3])
    elif damage == "corrupt":
        picture.write_bytes(picture.read_bytes()[:-20])
    elif damage == "stray":
        (folder / "notes").write_text("x")
    elif damage == "mixed":
        (folder / "view_5").rename(folder / "5")
    elif damage == "empty alpha":
        write_png(picture, np.zeros_like(rgba))
    elif damage == "flow shape":
        np.savez(
            folder / "flow.npz", view=0, flow=np.zeros((9, SIZE, SIZE, 2)), visible=np.ones((9, SIZE, SIZE))
        )
    elif damage == "flow file":
        (folder / "flow.npz").write_bytes(b"PK something")
    elif damage == "flow nan":
        grid = (FRAMES - 1, SIZE, SIZE)
        np.savez(folder / "flow.npz", view=0, flow=np.full((*grid, 2), np.nan), visible=np.ones(grid))
    elif damage == "normals":
        for path in (folder / "normals").rglob("*.png"):
            write_png(path, np.full((SIZE, SIZE, 3), 128, np.uint8))
    elif damage == "normal frames":
        for view in range(VIEWS):
            (folder / "normals" / f"view_{view}" / "2.png").unlink()
    elif damage == "masks":
        (folder / "masks").mkdir()
    elif damage == "no cameras":
        (folder / "cameras.json").unlink()
    elif damage == "camera size":
        (folder / "cameras.json").write_text(json.dumps(named_cameras("era3d", 32).to_dict()))
    with pytest.raises(DataError, match=message):
        read_multiview(folder)


def test_shapes_that_do_not_fit_are_refused_in_memory() -> None:
    video = made()
    assert video.flow is not None
    with pytest.raises(ValueError, match="alpha"):
        replace(video, alpha=video.alpha[:1])
    with pytest.raises(ValueError, match="cameras"):
        replace(video, cameras=video.cameras[:5])
    with pytest.raises(ValueError, match="normals"):
        replace(video, normals=video.alpha)
    with pytest.raises(ValueError, match="flow"):
        replace(video, flow=replace(video.flow, view=6))


def _masked(folder: Path) -> Path:
    """RGB pictures with masks."""
    video = made(extras=False)
    write_multiview(folder, video)
    for path in sorted(folder.glob("view_*/*.png")):
        rgba = np.array(Image.open(path))
        write_png(folder / "masks" / path.parent.name / path.name, rgba[..., 3])
        write_png(path, rgba[..., :3])
    return folder


def test_masks_of_other_frames_or_views_are_refused(tmp_path: Path) -> None:
    folder = _masked(tmp_path / "mv")
    whole = read_multiview(folder)
    assert torch.equal(whole.alpha, made().alpha)
    for view in (folder / "masks").iterdir():
        (view / "2.png").rename(view / "3.png")
    with pytest.raises(DataError, match=r"masks: 3 frames of masks for 3 frames, frame 2 is missing; give one"):
        read_multiview(folder)
    for view in (folder / "masks").iterdir():
        (view / "3.png").rename(view / "2.png")
    for n in range(VIEWS - 1, -1, -1):
        (folder / "masks" / f"view_{n}").rename(folder / "masks" / f"view_{n + 1}")
    with pytest.raises(DataError, match=r"masks: 6 views of masks for 6 views, view 0 is missing; give"):
        read_multiview(folder)


def test_masks_of_labels_are_refused(tmp_path: Path) -> None:
    folder = _masked(tmp_path / "mv")
    for path in (folder / "masks").rglob("*.png"):
        write_png(path, np.array(Image.open(path)) // 255 * 2)
    with pytest.raises(DataError, match=r"masks: the masks hold levels up to 2, expected 0 and 255"):
        read_multiview(folder)


def test_a_gap_between_views_is_refused_and_one_between_frames_is_time(tmp_path: Path) -> None:
    folder = tmp_path / "mv"
    write_multiview(folder, made(extras=False))
    for view in folder.glob("view_*"):
        (view / "2.png").rename(view / "5.png")
    assert read_multiview(folder).times.tolist() == pytest.approx([0, 0.2, 1])
    (folder / "view_5").rename(folder / "view_6")
    with pytest.raises(DataError, match="mv: there is no view 5, but one after it; number views as"):
        read_multiview(folder)
