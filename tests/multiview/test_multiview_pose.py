"""The estimated pose of the input: what is kept of it, what it says, and the camera of its lens."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.cli.method.run import _print
from mvtokenflow.datasets.toy4d.render import render
from mvtokenflow.datasets.toy4d.stream import six_views
from mvtokenflow.datasets.toy4d.toys import make_toy
from mvtokenflow.media.video import Clip
from mvtokenflow.method import pipeline
from mvtokenflow.method.asset import Asset
from mvtokenflow.method.config import MethodConfig, mini
from mvtokenflow.method.pipeline import Result, run
from mvtokenflow.method.placement import cameras_in_field
from mvtokenflow.method.prepare import Input, front_video
from mvtokenflow.method.priors import load_prior
from mvtokenflow.multiview.pose import InputPose, lens_cameras, read_pose
from mvtokenflow.multiview.preprocess import Crop
from mvtokenflow.multiview.prior import MultiviewPrior
from mvtokenflow.multiview.unet import MultiviewUNet
from mvtokenflow.small.training.config import read_prior_config
from mvtokenflow.splat.training_config import StageConfig
from mvtokenflow.views.cameras import Cameras, orbit
from mvtokenflow.views.video import FrontVideo

WHOLE = Crop(left=0, top=0, width=128, height=128, x=0, y=0, scaled_width=64, scaled_height=64, size=64)
CUT = Crop(left=12, top=-4, width=80, height=80, x=6, y=6, scaled_width=52, scaled_height=52, size=64)


def pose_of(elevation_deg: float, focal_mm: float | None, frames: int = 3) -> InputPose:
    lens = 0.0 if focal_mm is None else 24 / focal_mm
    return InputPose.of(torch.tensor([[math.radians(elevation_deg), lens]] * frames))


def test_medians_of_what_the_network_says() -> None:
    """One frame that is far off does not count."""
    said = torch.tensor([[0.1, 0.48], [0.2, 0.5], [1.5, 9.0]])
    pose = InputPose.of(said)
    assert pose.elevation == pytest.approx(math.degrees(0.2))
    assert pose.focal_mm == pytest.approx(48)
    assert pose.is_steep
    assert not pose_of(-9.9, 50).is_steep
    assert pose_of(-10.1, 50).is_steep


@pytest.mark.parametrize(
    ("lens", "focal"),
    [(24 / 35, 35.0), (24 / 135, 135.0), (0.1, 240.0), (0.08, None), (0.0, None), (-0.2, None), (1.2, 35.0)],
)
def test_lenses_are_those_of_the_training(lens: float, focal: float | None) -> None:
    found = InputPose(elevation_deg=(0.0,), lens=(lens,)).focal_mm
    assert found == (None if focal is None else pytest.approx(focal))


def test_kept_and_read_again(tmp_path: Path) -> None:
    pose, report = pose_of(12.5, 85), tmp_path / "views.json"
    report.write_text(json.dumps({"made_by": "x", "pose": pose.to_dict()}))
    assert read_pose(report) == pose
    for nothing in ({"made_by": "x"}, {"pose": None}):  # earlier versions, and priors without the head
        report.write_text(json.dumps(nothing))
        assert read_pose(report) is None


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        '{"pose": {"lens": [0.1]}}',
        '{"pose": {"lens": [0.1], "elevation_deg": ["up"]}}',
        '{"pose": {"lens": [], "elevation_deg": []}}',
        '{"pose": 3}',
    ],
)
def test_damage_is_told(tmp_path: Path, content: str) -> None:
    report = tmp_path / "views.json"
    report.write_text(content)
    with pytest.raises(DataError, match=r"views.json.*make the run again"):
        read_pose(report)


# ---- the camera of the lens ----


def test_35_mm_is_49_degrees_at_35_32nds_of_the_picture() -> None:
    """Consistent4D's camera: 49.1 degrees; the field's pictures are 2 wide."""
    camera = lens_cameras(35.0, WHOLE, 128, 128, 0.0)
    assert camera.kind == "pinhole"
    assert 2 * math.degrees(math.atan(64 / float(camera.intrinsics[0, 0, 0]))) == pytest.approx(49.13, abs=0.01)
    assert camera.centres[0].tolist() == pytest.approx([0, -2 * 35 / 32, 0], abs=1e-6)


@pytest.mark.parametrize("focal", [35.0, 135.0])
@pytest.mark.parametrize("crop", [WHOLE, CUT])
def test_the_plane_through_the_origin_is_where_the_front_view_shows_it(focal: float, crop: Crop) -> None:
    plane = torch.tensor([[0.5, 0.0, -0.3], [-0.7, 0.0, 0.8], [0.0, 0.0, 0.0]])
    camera = lens_cameras(focal, crop, 128, 160, 0.0)
    assert (camera.width, camera.height) == (160, 128)
    expected = crop.to_frame(orbit((0.0,), size=64, kind="ortho", radius=3.0).project(plane)[0])
    torch.testing.assert_close(camera.project(plane)[0], expected, rtol=0, atol=1e-3)
    middle = crop.to_frame(torch.tensor([32.0, 32.0]))[0]
    there, nearer = (camera.project(torch.tensor([[0.5, y, 0.0]]))[0][0, 0, 0] - middle for y in (0.0, -0.5))
    distance = 2 * focal / 32
    assert float(nearer / there) == pytest.approx(distance / (distance - 0.5), rel=1e-4)


def test_as_a_videos_camera_it_moves_nothing() -> None:
    front = lens_cameras(50.0, CUT, 128, 128, 0.0)
    placed = cameras_in_field(front, front, CUT)
    torch.testing.assert_close(placed.world_to_camera, front.world_to_camera, rtol=0, atol=1e-5)


def test_other_views_stand_on_the_same_circle() -> None:
    side = lens_cameras(50.0, CUT, 128, 128, 90.0, 10.0)
    assert side.centres.norm().item() == pytest.approx(2 * 50 / 32, abs=1e-5)
    assert side.centres[0, 0] > 0
    torch.testing.assert_close(side.intrinsics, lens_cameras(50.0, CUT, 128, 128, 0.0).intrinsics)


# ---- in a run ----


@pytest.fixture
def clip() -> Clip:
    picture = render(make_toy("quadruped", 7), six_views(64)[:1], [0.0, 0.5, 1.0])
    return Clip(
        rgb=torch.from_numpy(picture.rgb[:, 0]), alpha=torch.from_numpy(picture.alpha[:, 0]), name="toy"
    )


@pytest.fixture
def config(prior_file: Path) -> MethodConfig:
    """One step of everything."""
    small, few = mini(), StageConfig(iterations=1)
    return replace(
        small,
        prior=str(prior_file),
        sampling=replace(small.sampling, steps=1, timesteps=(999,)),
        stride=1,
        regeneration=False,
        refinement=False,
        reconstruction=replace(
            small.reconstruction,
            static=few,
            coarse=few,
            points=100,
            field=replace(small.reconstruction.field, control_points=8),
        ),
    )


def with_head(plain: MultiviewPrior, elevation_deg: float, focal_mm: float) -> MultiviewPrior:
    """The prior with a head that always says the same."""
    heads = {"regress_elevation": True, "regress_focal_length": True, "regress_hidden_dim": 16}
    unet = MultiviewUNet(replace(plain.unet.config, **heads))  # type: ignore[arg-type]  # of mixed types
    unet.load_state_dict(plain.unet.state_dict(), strict=False)
    said = (unet.elevation_regressor, math.radians(elevation_deg)), (unet.focal_regressor, 24 / focal_mm)
    with torch.no_grad():
        for regressor, value in said:
            regressor.linear_out.weight.zero_()
            regressor.linear_out.bias.fill_(value)
    return replace(plain, unet=unet.eval().requires_grad_(False))


def test_a_run_keeps_the_pose_and_takes_its_lens(
    clip: Clip, config: MethodConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clip is seen through the lens where nobody states a camera; without a head through none."""
    taken: list[Cameras | None] = []

    def noted(clip: Clip, given: Input, camera: Cameras | None) -> FrontVideo:
        taken.append(camera)
        return front_video(clip, given, camera)

    monkeypatch.setattr(pipeline, "front_video", noted)
    config = replace(config, front="input")
    plain = load_prior(config, "cpu")
    headed = with_head(plain, 12.0, 35.0)
    assert run(clip, config, tmp_path / "plain", 0, prior=plain).pose is None
    assert json.loads((tmp_path / "plain" / "views.json").read_text())["pose"] is None
    assert taken == [None]
    result = run(clip, config, tmp_path / "headed", 0, prior=headed)
    assert result.pose is not None
    assert len(result.pose.elevation_deg) == len(result.pose.lens) == 3
    assert result.pose.elevation == pytest.approx(12, abs=1e-4)
    assert result.pose.focal_mm == pytest.approx(35)
    assert result.pose == read_pose(tmp_path / "headed" / "views.json")
    lens = taken[-1]
    assert lens is not None
    torch.testing.assert_close(lens.intrinsics, lens_cameras(35.0, result.crop, 64, 64, 0.0).intrinsics)
    assert run(clip, config, tmp_path / "headed", 0, prior=headed).pose == result.pose, "read again"
    stated = orbit((0.0,), size=64, kind="pinhole", radius=2.0)
    run(clip, config, tmp_path / "stated", 0, prior=headed, camera=stated)
    assert taken[-1] is stated


def test_the_small_priors_training_has_no_poses(tmp_path: Path) -> None:
    """A head that nobody trained would be believed."""
    path = tmp_path / "prior.toml"
    path.write_text("[unet]\nregress_elevation = true\nregress_focal_length = true\n")
    with pytest.raises(ConfigError, match="regress_elevation is True, expected False"):
        read_prior_config(path)


class _Field:
    gaussians = ()


@pytest.mark.parametrize(("elevation", "warns"), [(4.0, False), (25.0, True), (-12.0, True)])
def test_steep_inputs_are_told(elevation: float, warns: bool, capsys: pytest.CaptureFixture[str]) -> None:
    result = Result(
        field=_Field(),  # type: ignore[arg-type]  # its size is all that is told
        crop=WHOLE,
        costs=(),
        front_iou=1.0,
        pose=pose_of(elevation, 35),
    )
    path = Path("x")
    asset = Asset(
        folder=path,
        field=path,
        turntable=path,
        views=(),
        ply=None,
        comparison=path,
        viewer=path,
        page=path,
        fps=8.0,
        frames=3,
        notes=(),
        result=result,
    )
    _print(asset, as_json=False)
    assert (f"{elevation:.0f} degrees of elevation" in capsys.readouterr().err) == warns
    _print(asset, as_json=True)
    told = json.loads(capsys.readouterr().out)["pose"]
    assert told == {
        "elevation_deg": pytest.approx(elevation, abs=1e-4),
        "focal_mm": pytest.approx(35, abs=1e-4),
    }
