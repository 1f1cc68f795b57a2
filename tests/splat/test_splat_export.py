"""Videos, pictures and .ply sequences of a field: what they show, that they resume, and what they refuse."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.base.files import frame_files
from mvtokenflow.media.pictures import Pixels, composite_white, read_rgb, read_rgba
from mvtokenflow.splat import export
from mvtokenflow.splat.config import FieldConfig
from mvtokenflow.splat.export import ExportView, Shot
from mvtokenflow.splat.field import DynamicField
from mvtokenflow.splat.gaussians import Gaussians
from mvtokenflow.splat.io import read_ply

SOURCE = {"sha256": "0" * 64}
RED, GREEN = (0.9, 0.1, 0.1), (0.1, 0.8, 0.2)
RISE = 0.5


class Rising(DynamicField):
    """Everything rises by `RISE` from the first to the last moment."""

    def at_many(self, times: Sequence[float] | Tensor) -> list[Gaussians]:
        still = self.gaussians.activated()
        lift = torch.tensor([0.0, 0.0, RISE])
        return [replace(still, means=still.means + float(time) * lift) for time in times]


@pytest.fixture
def field() -> DynamicField:
    """A red blob at (0.6, 0, -0.3), to the right of the front camera, and a green one at (0, 0, -0.3)."""
    spread = 0.05 * torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    points = torch.cat([spread + torch.tensor([0.6, 0.0, -0.3]), spread + torch.tensor([0.0, 0.0, -0.3])])
    colors = torch.tensor([RED, GREEN]).repeat_interleave(200, 0)
    made = Rising.from_points(FieldConfig(control_points=4, hyper_dim=0), points, colors)
    with torch.no_grad():
        made.gaussians.logit_opacities.fill_(4.0)
        made.gaussians.log_scales.fill_(math.log(0.03))
    return made


def centre(picture: Pixels, channel: int) -> tuple[float, float]:
    """World (across, up) of the pixels where a channel is the strongest, for ortho pictures."""
    picture = composite_white(picture) if picture.shape[-1] == 4 else picture
    others = np.delete(picture.astype(int), channel, axis=-1).max(-1)
    rows, columns = np.nonzero(picture[..., channel] > others + 100)
    size = picture.shape[0]
    return float(columns.mean() + 0.5) / size * 2 - 1, 1 - float(rows.mean() + 0.5) / size * 2


def decoded(path: Path) -> tuple[list[NDArray[np.uint8]], dict[str, Any]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        facts = {
            "codec": stream.codec_context.name,
            "format": stream.codec_context.pix_fmt,
            "rate": stream.average_rate,
        }
        return [
            np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(stream)
        ], facts


# ---- pictures ----


@pytest.mark.parametrize(
    ("azimuth", "across"), [(0.0, 0.6), (180.0, -0.6), (60.0, 0.3), (-60.0, 0.3), (120.0, -0.3), (240.0, -0.3)]
)
def test_a_picture_shows_the_field_from_its_azimuth_at_its_time(
    field: DynamicField, azimuth: float, across: float
) -> None:
    for time in (0.0, 1.0):
        found = centre(export.picture(field, Shot(azimuth, time), ExportView(size=64)), 0)
        # Measured 0.05: seen at a slant, the nearer blob hides a piece of the other.
        assert found == pytest.approx((across, -0.3 + RISE * time), abs=0.08)


def test_elevation_and_pinhole_reach_the_camera(field: DynamicField) -> None:
    above = export.picture(field, Shot(0, 0), ExportView(size=64, elevation_deg=60))
    # Seen from 60 degrees above, heights shrink to cos 60.
    assert centre(above, 0)[1] == pytest.approx(-0.3 * math.cos(math.radians(60)), abs=0.04)
    near = export.picture(field, Shot(0, 0), ExportView(size=64, kind="pinhole"))
    half = export.RADIUS * math.tan(math.radians(49.1) / 2)
    assert centre(near, 0)[0] == pytest.approx(0.6 / half, abs=0.04)


def test_straight_alpha_over_white_is_the_opaque_picture(field: DynamicField) -> None:
    view = ExportView(size=48)
    cut, opaque = (export.picture(field, Shot(20, 0.3), view, opaque=opaque) for opaque in (False, True))
    assert cut.shape == (48, 48, 4)
    assert opaque.shape == (48, 48, 3)
    assert (cut[cut[..., 3] == 0] == (255, 255, 255, 0)).all()
    rim = (cut[..., 3] > 20) & (cut[..., 3] < 230)
    assert rim.sum() > 20
    # Colour and alpha are rounded apart, each to half a level.
    assert np.abs(composite_white(cut).astype(int) - opaque).max() <= 1
    red = cut[(cut[..., 0] > cut[..., 1]) & (cut[..., 3] > 20)]
    assert np.abs(red[:, :3].astype(int) - np.rint(np.array(RED) * 255)).max() <= 8  # no white bleeds in


def test_every_azimuth_has_a_name_of_its_own() -> None:
    for azimuth, name in ((0.0, "0"), (-75.0, "-75"), (105.5, "105.5"), (0.1, "0.1"), (360.0, "360")):
        assert export.azimuth_name(azimuth) == f"azimuth_{name}"
    assert export.azimuth_name(15.0) != export.azimuth_name(math.nextafter(15.0, 16.0))


def test_a_broken_field_is_refused(field: DynamicField) -> None:
    with torch.no_grad():
        field.gaussians.features_dc.fill_(torch.nan)
    with pytest.raises(DataError, match=r"azimuth 15, time 0\.5: .* NaN"):
        export.picture(field, Shot(15, 0.5), ExportView(size=16))


# ---- plans ----


def test_a_turntable_goes_round_once_while_time_runs_once() -> None:
    shots = export.turntable(8)
    assert [shot.azimuth_deg for shot in shots] == [0, 45, 90, 135, 180, 225, 270, 315]
    assert [shot.time for shot in shots] == pytest.approx([n / 7 for n in range(8)])
    assert export.turntable(1) == [Shot(0, 0)]


def test_a_fixed_view_stands_still() -> None:
    assert export.fixed_view(-75, 3) == [Shot(-75, 0), Shot(-75, 0.5), Shot(-75, 1)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ExportView(size=0), "size is 0"),
        (lambda: ExportView(size=10**5), "size is 100000"),
        (lambda: ExportView(elevation_deg=90), "elevation is 90"),
        (lambda: ExportView(elevation_deg=math.nan), "elevation is nan"),
        (lambda: ExportView(kind="fisheye"), "camera is 'fisheye'"),  # type: ignore[arg-type]
        (lambda: Shot(0, 1.5), "time is 1.5"),
        (lambda: Shot(0, math.nan), "time is nan"),
        (lambda: Shot(math.inf, 0), "azimuth is inf"),
        (lambda: export.turntable(0), "0 frames"),
    ],
)
def test_plans_are_validated(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


# ---- videos ----


@pytest.mark.parametrize("opaque", [False, True])
def test_a_video_is_h264_of_its_frames(field: DynamicField, tmp_path: Path, opaque: bool) -> None:
    folder, calls = tmp_path / "azimuth_0", []
    video = export.export_video(
        field,
        export.fixed_view(0, 5),
        ExportView(size=64),
        folder,
        fps=12.5,
        source=SOURCE,
        opaque=opaque,
        progress=lambda *call: calls.append(call),
    )
    assert video == folder / "azimuth_0.mp4"
    pictures, facts = decoded(video)
    assert facts == {"codec": "h264", "format": "yuv420p", "rate": Fraction(25, 2)}
    frames = frame_files(folder / "frames")
    assert [frame.name for frame in frames] == [f"000{n}.png" for n in range(5)]
    kept = [read_rgb(frame) if opaque else composite_white(read_rgba(frame)) for frame in frames]
    for n, (shown, frame) in enumerate(zip(pictures, kept, strict=True)):
        # Measured 1.0 levels; saturated edges lose most, as colour has half the resolution.
        assert np.abs(shown.astype(int) - frame).mean() < 2
        assert centre(shown, 0) == pytest.approx((0.6, -0.3 + RISE * n / 4), abs=0.05)
    assert calls == [("azimuth_0", n, 5) for n in range(1, 6)]


class KilledError(Exception):
    """Stands for a killed process."""


def test_an_interrupted_export_goes_on_and_gives_the_same_bytes(field: DynamicField, tmp_path: Path) -> None:
    plan, view = export.turntable(6), ExportView(size=32)
    whole = export.export_video(field, plan, view, tmp_path / "a" / "turntable", fps=8, source=SOURCE)

    def stop(label: str, done: int, total: int) -> None:
        if done == 3:
            raise KilledError

    folder = tmp_path / "b" / "turntable"
    with pytest.raises(KilledError):
        export.export_video(field, plan, view, folder, fps=8, source=SOURCE, progress=stop)
    assert [path.name for path in frame_files(folder / "frames")] == ["0000.png", "0001.png", "0002.png"]
    times = {path: path.stat().st_mtime_ns for path in frame_files(folder / "frames")}
    video = export.export_video(field, plan, view, folder, fps=8, source=SOURCE)
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    for one, other in zip(frame_files(folder / "frames"), frame_files(whole.parent / "frames"), strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert len(decoded(video)[0]) == 6
    before = video.stat().st_mtime_ns
    export.export_video(field, plan, view, folder, fps=8, source=SOURCE)
    assert video.stat().st_mtime_ns == before


def test_another_export_into_the_same_folder_is_refused(field: DynamicField, tmp_path: Path) -> None:
    folder, plan, view = tmp_path / "turntable", export.turntable(2), ExportView(size=16)
    export.export_video(field, plan, view, folder, fps=8, source=SOURCE)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for changed in (
        {"fps": 9},
        {"source": {"sha256": "1" * 64}},
        {"opaque": True},
    ):
        with pytest.raises(ConfigError, match="turntable"):
            export.export_video(field, plan, view, folder, **{"fps": 8, "source": SOURCE} | changed)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"view\.size is 16 there, 18 here"):
        export.export_video(field, plan, ExportView(size=18), folder, fps=8, source=SOURCE)
    with pytest.raises(ConfigError, match="frames is 2 there, 3 here"):
        export.export_video(field, export.turntable(3), view, folder, fps=8, source=SOURCE)
    with pytest.raises(ConfigError, match="shots is "):
        export.export_video(field, export.fixed_view(0, 2), view, folder, fps=8, source=SOURCE)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_strangers_folder_and_a_damaged_frame_are_refused(field: DynamicField, tmp_path: Path) -> None:
    plan, view = export.turntable(2), ExportView(size=16)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(DataError, match="mine"):
        export.export_video(field, plan, view, tmp_path / "mine", fps=8, source=SOURCE)
    folder = tmp_path / "turntable"
    video = export.export_video(field, plan, view, folder, fps=8, source=SOURCE)
    video.unlink()
    frame = folder / "frames" / "0001.png"
    frame.write_bytes(frame.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"0001\.png: truncated PNG"):
        export.export_video(field, plan, view, folder, fps=8, source=SOURCE)
    assert not video.exists()


def test_odd_sizes_and_rates_are_refused_before_anything_is_rendered(
    field: DynamicField, tmp_path: Path
) -> None:
    plan = export.turntable(2)
    with pytest.raises(ConfigError, match=r"size is 31; H\.264 needs an even one, choose 32"):
        export.export_video(field, plan, ExportView(size=31), tmp_path / "a", fps=8, source=SOURCE)
    for fps in (0, -1, math.nan, 2000):
        with pytest.raises(ConfigError, match="fps is"):
            export.export_video(field, plan, ExportView(size=32), tmp_path / "a", fps=fps, source=SOURCE)
    assert not (tmp_path / "a").exists()


# ---- .ply ----


def test_ply_files_hold_the_gaussians_of_every_frame_and_resume(field: DynamicField, tmp_path: Path) -> None:
    folder = tmp_path / "ply"
    paths = export.export_ply(field, 3, folder, source=SOURCE)
    assert [path.name for path in paths] == ["0000.ply", "0001.ply", "0002.ply"]
    for path, time in zip(paths, (0, 0.5, 1), strict=True):
        found, expected = read_ply(path), field.at(time)
        assert torch.allclose(found.means, expected.means.detach(), atol=1e-6)
        assert torch.allclose(found.scales, expected.scales.detach(), rtol=1e-5)
    before = {path: path.stat().st_mtime_ns for path in paths}
    paths[1].unlink()
    assert export.export_ply(field, 3, folder, source=SOURCE) == paths
    assert paths[0].stat().st_mtime_ns == before[paths[0]]
    assert torch.allclose(read_ply(paths[1]).means, field.at(0.5).means.detach(), atol=1e-6)
    with pytest.raises(ConfigError, match="frames is 3 there, 4 here"):
        export.export_ply(field, 4, folder, source=SOURCE)
    assert json.loads((folder / "run.json").read_text())["field"] == SOURCE
