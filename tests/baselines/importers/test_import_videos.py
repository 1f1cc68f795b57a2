"""Views that programs wrote as pictures or videos: where they stand, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from official import SIZE, SV4D, SV4D2, clip, consistent4d_video, diffusion2, l4gm, sv4d
from PIL import Image

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.baselines.importers.catalogue import lacking
from mvtokenflow.baselines.importers.contract import Given, Wanted, standard_views
from mvtokenflow.baselines.importers.folder import checked_scenes
from mvtokenflow.baselines.importers.writing import Import
from mvtokenflow.media.video import write_video


def opened(
    folder: Path, given: Given | None = None, views: list[Wanted] | None = None, kind: str = "auto"
) -> Import:
    chosen = standard_views() if views is None else views
    (found,) = checked_scenes(folder, lambda scene: chosen, None, given or Given(), scene="it", kind=kind)
    return found


def tone(found: Import, view: str, frame: int = 0) -> int:
    return int(found.opened.draw(view, frame)[16, 16, 0])


def test_diffusion2(tmp_path: Path) -> None:
    root = diffusion2(tmp_path / "toy/default_seed_0000023")
    alone = opened(tmp_path / "toy")
    assert (alone.record["kind"], list(alone.record["views"])) == ("diffusion2", ["input"])
    assert tone(alone, "input") == 200  # view 20
    found = opened(root, Given(nearest_deg=6.5))
    apart = {view: facts["degrees_off"] for view, facts in found.record["views"].items()}
    assert apart == {"input": 0.0, "eval_0": 6.43, "eval_1": 2.14, "eval_2": -2.14, "eval_3": -6.43}
    assert {view: tone(found, view) for view in apart} == {
        "input": 200, "eval_0": 160, "eval_1": 0, "eval_2": 50, "eval_3": 100,
    }  # fmt: skip
    assert found.record["frames"] == 25
    sides = standard_views()[1:]
    with pytest.raises(DataError, match=r"accept nearest ones with `mvtf-eval import --nearest 6.43`"):
        opened(root, views=sides)
    degrees = [*(360.0 * (k + 1) / 21 for k in range(20)), 0.0]
    degrees[15] = 285.0
    exact = opened(root, Given(azimuths=tuple(degrees)), sides)
    assert exact.record["views"]["eval_0"] == {"from": "view_15", "azimuth_deg": 285.0, "degrees_off": 0.0}
    with pytest.raises(ConfigError, match="2 azimuths are stated for 21 views"):
        opened(root, Given(azimuths=(0, 1)))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "view_20/frame_07.png").unlink(), "view_20/frame_07.png: no such file"),
        (lambda f: _noise(f / "view_20/frame_03.png"), "view_20: frame 3 has a border of mean 0.51"),
        (lambda f: (f / "view_04").rename(f / "view_xx"), "diffusion2 lacks view_04/ beside ref_multiview.pth"),
        (lambda f: (f / "ref_multiview.pth").unlink(), "diffusion2 lacks ref_multiview.pth"),
    ],
)
def test_damaged_results_of_diffusion2(tmp_path: Path, spoil: Callable[[Path], Any], said: str) -> None:
    spoil(diffusion2(tmp_path))
    with pytest.raises(DataError) as caught:
        opened(tmp_path, kind="diffusion2")
    assert said in str(caught.value)


def test_frames_that_were_scaled_one_by_one_are_refused(tmp_path: Path) -> None:
    root = diffusion2(tmp_path)
    for n, path in enumerate(sorted((root / "view_20").glob("frame_*.png"))):
        picture = np.full((SIZE, SIZE, 3), 255, np.uint8)
        half = 4 + n % 5  # of its width
        picture[4 : SIZE - 4, SIZE // 2 - half : SIZE // 2 + half] = 200
        Image.fromarray(picture).save(path)
    with pytest.raises(DataError, match=r"view_20: .* without --image_frame_ratio"):
        opened(root, Given(nearest_deg=6.5))


def _noise(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def test_sv4d_has_no_view_of_the_benchmark_but_near_ones(tmp_path: Path) -> None:
    sv4d(tmp_path, SV4D)
    with pytest.raises(DataError, match=r"--nearest 19.29"):
        opened(tmp_path)
    found = opened(tmp_path, Given(nearest_deg=11))
    apart = {view: facts["degrees_off"] for view, facts in found.record["views"].items()}
    assert apart == {"eval_0": -10.71, "eval_3": 10.71}
    assert abs(tone(found, "eval_3") - 100) < 8  # v005
    assert found.record["codec"] == ["h264"]
    assert "the input was cropped, so the framing differs" in found.record["remarks"]


def test_sv4d2_at_stated_azimuths(tmp_path: Path) -> None:
    sv4d(tmp_path, SV4D2)
    found = opened(tmp_path, Given(azimuths=(15, 105, 195, 285)))
    assert found.record["kind"] == "sv4d2"
    order = [(view, abs(tone(found, view) - level) < 8) for view, level in zip(
        ("eval_1", "eval_2", "eval_3", "eval_0"), (40, 80, 120, 160), strict=True
    )]  # fmt: skip
    assert order == [(view, True) for view, _ in order]
    assert found.record["frames"] == 21
    eight = sv4d(
        tmp_path / "eight", {name: level for name, level in SV4D.items() if name not in ("t000", "diag")}
    )
    near = opened(eight, Given(nearest_deg=15))
    assert near.record["kind"] == "sv4d2"
    assert near.record["views"]["eval_1"] == {"from": "v001", "azimuth_deg": 30.0, "degrees_off": 15.0}


def test_damaged_results_of_sv4d(tmp_path: Path) -> None:
    sv4d(tmp_path, SV4D2, frames=20)
    with pytest.raises(DataError, match=r"000000_v004.mp4: 20 frames where 21 are written"):
        opened(tmp_path, Given(azimuths=(15, 105, 195, 285)))
    sv4d(tmp_path, {"v001": 40}, run="000001")
    assert "sv4d2 lacks one run; it has 000000, 000001, so move each into a folder" in lacking(tmp_path)
    assert "sv4d lacks <run>_v005.mp4" in lacking(sv4d(tmp_path / "two", SV4D2))


def test_l4gm_is_cut_into_its_views(tmp_path: Path) -> None:
    found = opened(l4gm(tmp_path))
    assert (found.record["kind"], list(found.record["views"])) == ("l4gm", ["input"])
    assert found.record["size"] == [SIZE, SIZE]
    near = opened(tmp_path, Given(nearest_deg=15))
    assert {view: abs(tone(near, view) - level) < 8 for view, level in {
        "input": 20, "eval_2": 80, "eval_3": 140, "eval_0": 200
    }.items()} == dict.fromkeys(("input", "eval_2", "eval_3", "eval_0"), True)  # fmt: skip
    assert "without eval_1" in near.record["remarks"]
    write_video(tmp_path / "wo_interp_toy_fixed.mp4", clip(1, 3), 15)
    with pytest.raises(DataError, match="32x32 pixels are no four square views"):
        opened(tmp_path)
    (tmp_path / "toy_orig.png").unlink()
    assert "l4gm lacks toy_orig.png" in lacking(tmp_path)


def test_a_validation_video_of_consistent4d_is_cut_into_its_views(tmp_path: Path) -> None:
    found = opened(consistent4d_video(tmp_path / "trial", 6), Given(frames=6), kind="consistent4d-video")
    assert list(found.record["views"]) == ["eval_0", "eval_1", "eval_2", "eval_3"]
    assert (found.record["frames"], found.record["size"]) == (6, [SIZE, SIZE])
    for view, level in zip(found.record["views"], (20, 80, 140, 200), strict=True):
        for frame in (0, 5):
            expected = clip(level, 6)[frame, 16, 16, 0]
            assert abs(tone(found, view, frame) - int(expected)) < 8, (view, frame)
    azimuths = [facts["azimuth_deg"] for facts in found.record["views"].values()]
    assert azimuths == [-75.0, 15.0, 105.0, 195.0]


def test_a_training_video_of_consistent4d_is_refused(tmp_path: Path) -> None:
    """It has 96 pictures of an orbit and three other poses of every frame."""
    folder = consistent4d_video(tmp_path / "trial", 6, more=90)
    with pytest.raises(DataError, match=r"114 pictures are not four views of 6 frames; a training's video"):
        opened(folder, Given(frames=6), kind="consistent4d-video")
    with pytest.raises(DataError, match=r"consistent4d lacks ckpts/last\.ckpt"):
        opened(folder)
