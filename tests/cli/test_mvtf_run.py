"""`mvtf run` from a clip to a page, again, and with wrong input."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch

from mvtokenflow.base.files import frame_files
from mvtokenflow.datasets.toy4d.render import render
from mvtokenflow.datasets.toy4d.stream import six_views
from mvtokenflow.datasets.toy4d.toys import make_toy
from mvtokenflow.media.pictures import composite_white, read_mask, read_rgb, read_rgba, write_png
from mvtokenflow.media.video import count_frames, write_video
from mvtokenflow.splat.io import field_rate, load_field, read_ply

FRAMES, SIZE = 4, 64
Run = Callable[..., tuple[int, str, str]]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four RGBA frames of a toy."""
    seen = render(make_toy("quadruped", 7), six_views(SIZE)[:1], [n / (FRAMES - 1) for n in range(FRAMES)])
    folder = tmp_path_factory.mktemp("clip") / "toy"
    for n, rgba in enumerate(np.concatenate((seen.rgb, seen.alpha), axis=-1)[:, 0]):
        write_png(folder / f"{n}.png", rgba)
    return folder


@pytest.fixture(scope="module")
def opaque(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same on white, without alpha."""
    folder = tmp_path_factory.mktemp("opaque") / "toy"
    for path in frame_files(clip):
        write_png(folder / path.name, composite_white(read_rgba(path)))
    return folder


@pytest.fixture
def few(prior_file: Path) -> list[str]:
    """Options for next to no work."""
    settings = (
        f"prior={prior_file}",
        "stride=1",
        "sampling.steps=2",
        "sampling.timesteps=999,100",
        "token_flow.interval=2",
        "token_flow.tau=0.5",
        "reconstruction.static.iterations=3",
        "reconstruction.coarse.iterations=3",
        "reconstruction.refine.iterations=3",
        "reconstruction.points=200",
        "reconstruction.field.control_points=8",
    )
    return ["--size", "48", *(word for one in settings for word in ("--set", one))]


def _stamps(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@contextmanager
def _killed() -> Iterator[Callable[[str, int, int], None]]:
    """In place of progress bars: Ctrl-C when the coarse stage begins."""

    def report(stage: str, done: int, total: int) -> None:
        if "Coarse field" in stage:
            raise KeyboardInterrupt

    yield report


def test_a_clip_becomes_a_field_videos_and_a_page_and_never_again(
    mvtf: Run, clip: Path, few: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("mvtokenflow.cli.method.run.progress", _killed)
        assert mvtf("run", clip, "-o", out, *few)[0] != 0
    begun = (out / "index.html").read_text()
    assert "First pass" in begun
    assert "Second pass" not in begun
    assert "Stopped in stage 3 of 6, Coarse field. Run the same command again to go on." in begun
    assert 'http-equiv="refresh"' not in begun
    views = _stamps(out / "method" / "views")
    code, printed, messages = mvtf("run", clip, "-o", out, *few, "--json")
    assert code == 0, messages
    assert messages.startswith(f"watch it in {out / 'index.html'}\n")
    assert not (out / "progress.json").exists()
    assert _stamps(out / "method" / "views") == views
    made = json.loads(printed)
    assert made["frames"] == FRAMES
    assert [cost["stage"] for cost in made["costs"]] == ["views", "coarse", "regenerated", "refined"]
    # One box for the whole clip, its longer side 7/8 of the prior's picture.
    assert max(made["crop"]["scaled_width"], made["crop"]["scaled_height"]) in (55, 56)
    field = load_field(Path(made["field"]))
    assert field.is_dynamic
    assert len(field.gaussians) == made["gaussians"]
    assert [Path(path).stem for path in made["views"]] == [f"azimuth_{a}" for a in (0, 90, 180, 270)]
    assert [count_frames(Path(path)) for path in made["views"]] == [FRAMES] * 4
    assert count_frames(Path(made["turntable"])) == 48
    for n, path in enumerate(sorted(Path(made["ply"]).glob("*.ply"))):
        assert torch.allclose(read_ply(path).means, field.at(n / (FRAMES - 1)).means.detach(), atol=1e-5)
    assert count_frames(Path(made["comparison"])) == FRAMES
    environment = json.loads((out / "environment.json").read_bytes())
    assert environment[0]["packages"]["torch"] == torch.__version__.split("+")[0]
    page = Path(made["page"]).read_text()
    for part in ("comparison.mp4", "turntable/turntable.mp4", "First pass", "Second pass", "refine, step 3"):
        assert part in page
    assert f"{made['front_iou']:.2f}" in page
    assert "mvtf export out/field.safetensors -o out/export" in page
    assert "At work" not in page

    before = _stamps(out)
    code, again, messages = mvtf("run", clip, "-o", out, *few, "--json")
    assert code == 0, messages
    assert json.loads(again) == made
    assert _stamps(out) == before

    for options, name in (
        (("--seed", 1), "seed is 0 there, 1 here"),
        (("--frames", 3), "video.frames is 4 there, 3 here"),
        (("--whole-frame",), "config.square.crop_size is 56 there, -1 here"),
        (("--without", "flow-loss"), "config.flow_loss is true there, false here"),
    ):
        code, _, messages = mvtf("run", clip, "-o", out, *few, *options)
        assert code == 2
        assert name in messages
    assert _stamps(out) == before

    (out / "turntable" / "turntable.mp4").unlink()  # as if killed before it was written
    assert mvtf("run", clip, "-o", out, *few)[0] == 0
    assert set(_stamps(out)) == set(before)


def test_an_opaque_clip_is_segmented_once(
    mvtf: Run, opaque: Path, few: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def remove(frame: Any, *, session: str, only_mask: bool) -> Any:
        assert only_mask
        seen.append(session)
        return ((frame < 250).any(-1) * 240).astype(np.uint8) + 6  # a network's levels, not 0 and 255

    fake = SimpleNamespace(new_session=lambda model: model, remove=remove)
    monkeypatch.setitem(sys.modules, "rembg", fake)
    monkeypatch.setattr("mvtokenflow.media.segment._network", lambda: tmp_path / "isnet-general-use.onnx")
    given = ("run", opaque, "-o", tmp_path / "out", *few, "--segment", "--without", "refinement", "--no-ply")
    code, printed, messages = mvtf(*given, "--json")
    assert code == 0, messages
    assert "ply" not in json.loads(printed)
    assert seen == ["isnet-general-use"] * FRAMES
    page = (tmp_path / "out" / "index.html").read_text()
    assert "Object cut out by" in page
    assert "isnet-general-use" in page
    assert "Second pass" not in page
    before = _stamps(tmp_path / "out")
    monkeypatch.setitem(sys.modules, "rembg", None)  # the masks are there: it is not needed again
    code, _, messages = mvtf(*given)
    assert code == 0, messages
    assert _stamps(tmp_path / "out") == before


BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "part": (("--without", "flows"), "no part of the method 'flows'. Did you mean 'flow'?"),
    "assignment": (("--set", "stride"), "'stride' sets nothing; write it as name=value"),
    "setting": (("--set", "token_flow.intervall=2"), "Did you mean 'interval'?"),
    "value": (("--set", "sampling.steps=many"), "sampling.steps is 'many'; expected a whole number"),
    "infinite": (("--set", "sampling.guidance=inf"), "sampling.guidance is 'inf'; expected a finite number"),
    "seed": (("--seed", str(2**63)), "the seed is 9223372036854775808; choose a whole number from 0"),
    "negative seed": (("--seed", "-1"), "the seed is -1"),
    "preset": (("--preset", "tiny"), "Known: mini, mini-independent, paper"),
    "frames": (("--frames", "65"), "--frames is 65; choose 2 to 64"),
    "fewer": (("--frames", "9"), "it has 4"),
    "stride": (("--stride", "0"), "--stride is 0"),
    "start": (("--start", "soon"), "--start is 'soon'; give a frame, such as 48, or a time, such as 2.5s"),
    "late": (("--start", "3"), "1 frame selected of 4"),
    "seconds": (("--start", "1s"), "a folder of frames has no seconds"),
    "one frame": (("--stride", "4"), "a clip needs two or more"),
    "odd": (("--size", "31"), "H.264 needs an even one"),
    "fps": (("--fps", "0"), "fps is 0"),
    "device": (("--device", "cuda:77"), "--device cuda:77: not on this machine"),
    "both": (("--segment", "--mask", "masks"), "--mask and --segment"),
    "two": (("--segment", "--background", "white"), "--segment and --background"),
    "segmenter": (("--segment=sam3",), "--segment is 'sam3'; choose rembg or sam2"),
    "point": (("--point", "3,4"), "--point and --box belong to --segment sam2"),
    "no place": (("--segment", "sam2", "--box", "1,2,3"), "--box is '1,2,3'; expected 4 numbers"),
    "alpha and click": (("--segment", "sam2", "--point", "3,4"), "has alpha of its own"),
    "alpha too": (("--background", "white"), "has alpha of its own"),
    "mask": (("--mask", "nowhere.mp4"), "nowhere.mp4"),
    "alpha": (("--segment",), "has alpha of its own"),
    "prior": (("--set", "prior=none.safetensors"), "none.safetensors: no prior there"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_the_user_can_mend_ends_with_2_before_anything_is_written(
    mvtf: Run, clip: Path, few: list[str], tmp_path: Path, case: str
) -> None:
    options, sentence = BAD[case]
    code, printed, messages = mvtf("run", clip, "-o", tmp_path / "out", *few, *options)
    assert code == 2
    assert sentence in messages
    assert messages.startswith("error: ")
    assert messages.count("\n") == 1
    assert not printed
    assert not (tmp_path / "out").exists()


@pytest.fixture
def busy(clip: Path, tmp_path: Path) -> Path:
    """The same before stripes, without alpha."""
    folder = tmp_path / "busy"
    for path in frame_files(clip):
        rgba = read_rgba(path).astype(np.float32)
        stripes = np.indices(rgba.shape[:2]).sum(0)[..., None] % 16 * np.array([16, 8, 4], np.float32)
        share = rgba[..., 3:] / 255
        write_png(folder / path.name, np.rint(rgba[..., :3] * share + stripes * (1 - share)).astype(np.uint8))
    return folder


def test_clips_that_are_not_cut_out_need_a_mask_or_rembg(
    mvtf: Run, busy: Path, few: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("run", busy, "-o", tmp_path / "out", *few)
    code, _, messages = mvtf(*given)
    assert code == 2
    assert "of the border is of one colour" in messages
    for way in ("--background", "--segment", "--mask"):
        assert way in messages
    code, _, messages = mvtf(*given, "--background", "#ff00ff")
    assert code == 2
    assert "0% of the border is of one colour (#ff00ff)" in messages
    code, _, messages = mvtf(*given, "--background", "pink")
    assert code == 2
    assert "--background is 'pink'; choose auto, white or a colour such as '#f4f4f0'" in messages
    for path in frame_files(busy):
        mask = np.where(read_rgb(path)[..., 2] > 70, 255, 0).astype(np.uint8)
        write_png(tmp_path / "masks" / path.name, mask)
    code, _, messages = mvtf(*given, "--mask", tmp_path / "masks", "--set", "prior=none.safetensors")
    assert code == 2
    assert "no prior there" in messages  # which is asked for after the clip was read
    monkeypatch.setitem(sys.modules, "rembg", None)
    code, _, messages = mvtf(*given, "--segment")
    assert code == 2
    assert "pip install 'rembg[cpu]'" in messages
    assert not (tmp_path / "out").exists()


def test_a_film_before_a_plain_background_becomes_an_asset(
    mvtf: Run, clip: Path, few: list[str], tmp_path: Path
) -> None:
    """Uneven light, H.264, from the second frame on; nothing says how to cut the object out."""
    film, shades = tmp_path / "toy.mp4", np.linspace(0.75, 0.97, SIZE, dtype=np.float32)[:, None, None]
    frames = []
    for path in [frame_files(clip)[0], *frame_files(clip)]:
        rgba = read_rgba(path).astype(np.float32) / 255
        frames.append(rgba[..., :3] * rgba[..., 3:] + shades * (1 - rgba[..., 3:]))
    write_video(film, np.rint(np.stack(frames) * 255).astype(np.uint8), 30)
    given = ("run", film, "-o", tmp_path / "out", *few, "--without", "refinement", "--no-ply", "--start", 1)
    code, printed, messages = mvtf(*given, "--json")
    assert code == 0, messages
    made = json.loads(printed)
    assert made["frames"] == FRAMES
    assert "the object is cut out of its background, #" in made["notes"][-1]
    for path, truth in zip(sorted((tmp_path / "out" / "masks").glob("*.png")), frame_files(clip), strict=True):
        mask, wanted = read_mask(path) > 127, read_rgba(truth)[..., 3] > 127
        assert (mask & wanted).sum() / (mask | wanted).sum() > 0.9
    assert read_rgb(tmp_path / "out" / "masks.png").shape == (SIZE, 4 * SIZE, 3)
    assert "background auto" in (tmp_path / "out" / "index.html").read_text()
    assert made["fps"] == 30
    assert field_rate(Path(made["field"])) == 30
    before = _stamps(tmp_path / "out")
    assert mvtf(*given, "--background", "auto")[0] == 0
    assert _stamps(tmp_path / "out") == before

    _, _, messages = mvtf(*given, "--fps", 9)
    assert "videos are written again (fps 30.0 -> 9.0); nothing else is computed" in messages
    after = _stamps(tmp_path / "out")
    changed = {Path(path).name for path in before if after[path] != before[path]}
    assert {"turntable.mp4", "azimuth_0.mp4", "comparison.mp4", "viewer.html", "export.json"} <= changed
    assert not {path for path in before if "method" in path or path.endswith((".png", "field.safetensors"))} & {
        path for path in before if after[path] != before[path]
    }
    with av.open(made["turntable"]) as video:
        assert video.streams.video[0].average_rate == 9
    _, _, messages = mvtf(*given, "--fps", 9, "--size", 40)
    assert "size 48 -> 40" in messages
    assert read_rgba(tmp_path / "out" / "turntable" / "frames" / "0000.png").shape == (40, 40, 4)
    resized = _stamps(tmp_path / "out")
    assert {path for path in resized if "method" in path and resized[path] != before[path]} == set()


def test_a_dry_run_loads_everything_and_writes_nothing(
    mvtf: Run, clip: Path, few: list[str], tmp_path: Path
) -> None:
    code, printed, messages = mvtf("run", clip, "-o", tmp_path / "out", *few, "--dry-run", "--json")
    assert code == 0, messages
    found = json.loads(printed)
    assert (found["frames"], found["passes"], found["cut_out_by"]) == (FRAMES, 2, "alpha")
    assert found["frame_seconds"] > 0
    assert not (tmp_path / "out").exists()
    code, _, messages = mvtf("run", clip, "-o", tmp_path / "out", *few, "--dry-run", "--set", "flow=raft")
    assert code == 2, messages


def test_folders_of_earlier_versions_keep_their_stages(
    mvtf: Run, clip: Path, few: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    given = ("run", clip, "-o", out, *few, "--without", "refinement", "--no-ply")
    assert mvtf(*given)[0] == 0
    before = _stamps(out / "method")
    settings = json.loads((out / "run.json").read_text())
    settings["export"] = json.loads((out / "export.json").read_text())
    (out / "run.json").write_text(json.dumps(settings))
    (out / "export.json").unlink()
    code, _, messages = mvtf(*given)
    assert code == 0, messages
    assert _stamps(out / "method") == before
    assert "export" not in json.loads((out / "run.json").read_text())


def test_long_clips_are_refused_with_the_ways_out(mvtf: Run, few: list[str], tmp_path: Path) -> None:
    picture = np.zeros((8, 8, 4), np.uint8)
    picture[2:6, 2:6] = 255
    for n in range(70):
        write_png(tmp_path / "long" / f"{n}.png", picture)
    code, _, messages = mvtf("run", tmp_path / "long", "-o", tmp_path / "out", *few)
    assert code == 2
    assert "70 frames, more than the 64" in messages
    assert "--frames 64" in messages
    assert "--stride 2" in messages
    nothing = ("--set", "prior=none.safetensors")  # asked for after the clip was read
    code, _, messages = mvtf("run", tmp_path / "long", "-o", tmp_path / "out", *few, "--stride", 2, *nothing)
    assert code == 2
    assert "no prior there" in messages


def test_results_of_others_are_left_alone_and_help_has_an_example(
    mvtf: Run, clip: Path, few: list[str], tmp_path: Path
) -> None:
    write_png(tmp_path / "out" / "mine.png", np.zeros((4, 4, 3), np.uint8))
    code, _, messages = mvtf("run", clip, "-o", tmp_path / "out", *few)
    assert code == 2
    assert "give a new or empty folder" in messages
    assert read_rgb(tmp_path / "out" / "mine.png").shape == (4, 4, 3)
    assert len(_stamps(tmp_path / "out")) == 1
    code, printed, _ = mvtf("run", "--help")
    assert code == 0
    assert "Example: mvtf run " in " ".join(printed.split())


def test_a_gap_in_the_frames_is_said_and_is_a_gap_in_the_results(
    mvtf: Run, clip: Path, few: list[str], tmp_path: Path
) -> None:
    gapped = tmp_path / "toy"
    for n, path in zip((0, 1, 2, 5), frame_files(clip), strict=True):
        write_png(gapped / f"frame_{n:04d}.png", read_rgba(path))
    code, printed, messages = mvtf("run", gapped, "-o", tmp_path / "out", *few, "--json")
    assert code == 0, messages
    made = json.loads(printed)
    assert "note: " + made["notes"][0] in messages
    assert "frames are 1 to 3 numbers apart and keep their own times" in made["notes"][0]
    field = load_field(Path(made["field"]))
    for time, path in zip((0, 0.2, 0.4, 1), sorted(Path(made["ply"]).glob("*.ply")), strict=True):
        assert torch.allclose(read_ply(path).means, field.at(time).means.detach(), atol=1e-5)
    assert count_frames(Path(made["comparison"])) == FRAMES
