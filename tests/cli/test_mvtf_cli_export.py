"""`mvtf export` and `mvtf render` end to end on a small field."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rival_fields import write_planes, write_radiance
from safetensors.torch import save_file

from mvtokenflow.base.files import frame_files
from mvtokenflow.media.pictures import composite_white, read_rgb, read_rgba
from mvtokenflow.media.video import read_clip
from mvtokenflow.splat.config import FieldConfig
from mvtokenflow.splat.export import ExportView
from mvtokenflow.splat.field import DynamicField
from mvtokenflow.splat.io import load_field, read_ply, save_field
from mvtokenflow.workdir.lock import working_in

Mvtf = Callable[..., Any]  # of tests/conftest.py


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A field of 150 Gaussians and 4 control points whose network moves them."""
    generator = torch.Generator().manual_seed(0)
    points = 0.3 * torch.randn(150, 3, generator=generator).clamp(-1.5, 1.5)
    colors = torch.rand(150, 3, generator=generator)
    config = FieldConfig(control_points=4, hyper_dim=2, width=16)
    field = DynamicField.from_points(config, points, colors)
    with torch.no_grad():
        field.gaussians.logit_opacities.fill_(3.0)
    field = field.with_control_points(generator=generator)
    with torch.no_grad():
        for value in field.control.network.parameters() if field.control else ():
            value.add_(0.05 * torch.randn(value.shape, generator=generator))
    path = tmp_path_factory.mktemp("field") / "field.safetensors"
    save_field(path, field)
    return path


def stamps(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_export_writes_every_kind_and_says_what(mvtf: Mvtf, saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = ("export", saved, "-o", out, "--frames", 4, "--size", 32, "--fps", 5, "--json")
    done = mvtf(*given, "--turntable", "--fixed", "-75", "--fixed", "105.5", "--ply")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert [entry["kind"] for entry in document["outputs"]] == [
        "azimuth_-75",
        "azimuth_105.5",
        "turntable",
        "ply",
    ]
    assert {entry["frames"] for entry in document["outputs"]} == {4}
    for entry in document["outputs"][:3]:
        pictures = frame_files(Path(entry["pictures"]))
        assert len(pictures) == 4
        assert Path(entry["path"]) == out / entry["kind"] / f"{entry['kind']}.mp4"
        assert read_rgba(pictures[0]).shape == (32, 32, 4)
    field = load_field(saved)
    for n, path in enumerate(sorted((out / "ply").glob("*.ply"))):
        assert torch.allclose(read_ply(path).means, field.at(n / 3).means.detach(), atol=1e-5)
    first, last = (read_rgba(out / "azimuth_-75" / "frames" / f"000{n}.png") for n in (0, 3))
    assert (first != last).any()  # time runs

    before = stamps(out)
    again = mvtf(*given, "--turntable", "--fixed", "-75")
    assert again.code == 0
    assert stamps(out) == before
    assert mvtf(*given, "--fixed", "0").code == 0  # another kind joins
    assert before.items() < stamps(out).items()


def test_the_exported_frames_are_a_clip_that_this_program_reads(
    mvtf: Mvtf, saved: Path, tmp_path: Path
) -> None:
    assert mvtf("export", saved, "-o", tmp_path / "o", "--fixed", 0, "--frames", 3, "--size", 24).code == 0
    clip = read_clip(tmp_path / "o" / "azimuth_0" / "frames")
    assert clip.rgb.shape == (3, 24, 24, 3)
    assert 0.05 < float(clip.alpha.mean()) < 0.95


def test_render_one_picture_and_keep_it(mvtf: Mvtf, saved: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "one.png"
    given = ("render", saved, "-o", target, "--size", 33, "--elevation", -10, "--camera", "pinhole")
    done = mvtf(*given, "--azimuth", -75, "--time", 0.5, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["pictures"] == [str(target)]
    picture = read_rgba(target)
    assert picture.shape == (33, 33, 4)
    assert picture[..., 3].max() > 200
    before = stamps(tmp_path)
    assert mvtf(*given, "--azimuth", -75, "--time", 0.5).code == 0
    refused = mvtf(*given, "--azimuth", 75, "--time", 0.5)
    assert refused.code == 2
    sentence = f"error: {target}: another picture is there; give another name or delete it"
    assert refused.err.splitlines()[1:] == [sentence]  # the first says the device
    assert stamps(tmp_path) == before


def test_render_a_folder_of_azimuths_and_times(mvtf: Mvtf, saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "views"
    given = ("render", saved, "-o", out, "--time", 0, "--time", 1, "--size", 24)
    done = mvtf(*given, "--azimuth", 0, "--azimuth", 90)
    assert done.code == 0, done.err
    assert "4 pictures" in done.err
    assert {str(path.relative_to(out)) for path in out.rglob("*.png")} == {
        "azimuth_0/0000.png",
        "azimuth_0/0001.png",
        "azimuth_90/0000.png",
        "azimuth_90/0001.png",
    }
    assert mvtf(*given, "--azimuth", 180).code == 0
    refused = mvtf("render", saved, "-o", out, "--time", 0.5, "--azimuth", 0, "--size", 24)
    assert refused.code == 2
    assert str(out) in refused.err


def test_azimuths_that_are_nearly_one_have_a_folder_each(mvtf: Mvtf, saved: Path, tmp_path: Path) -> None:
    near = ("12.345678", "12.345679")
    for verb, option in (("render", "--azimuth"), ("export", "--fixed")):
        given = (verb, saved, "-o", tmp_path / verb, "--size", 16)
        more = ("--frames", 1) if verb == "export" else ()
        assert mvtf(*given, *more, option, near[0], option, near[1]).code == 0
        folders = {path.name for path in (tmp_path / verb).iterdir() if path.is_dir()}
        assert folders == {f"azimuth_{angle}" for angle in near}


def test_a_folder_that_another_process_works_in_is_left_alone(mvtf: Mvtf, saved: Path, tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    for verb, more in (("render", ()), ("export", ("--turntable", "--frames", 1))):
        with working_in(tmp_path / "busy"):
            done = mvtf(verb, saved, "-o", tmp_path / "busy", "--size", 16, *more)
        assert (done.code, done.out) == (2, "")
        assert f"another process is working in {tmp_path / 'busy'}; wait for it" in done.err
        assert not list((tmp_path / "busy").iterdir())


def test_opaque_pictures_are_the_others_on_white(mvtf: Mvtf, saved: Path, tmp_path: Path) -> None:
    for name, more in (("a.png", ()), ("b.png", ("--opaque",))):
        assert mvtf("render", saved, "-o", tmp_path / name, "--size", 32, *more).code == 0
    blended = composite_white(read_rgba(tmp_path / "a.png")).astype(int)
    assert np.abs(blended - read_rgb(tmp_path / "b.png")).max() <= 1


def test_a_moved_field_goes_on_and_another_one_is_refused(mvtf: Mvtf, saved: Path, tmp_path: Path) -> None:
    moved, other = tmp_path / "moved.safetensors", tmp_path / "other.safetensors"
    moved.write_bytes(saved.read_bytes())
    field = load_field(saved)
    with torch.no_grad():
        field.gaussians.means.add_(0.01)
    save_field(other, field)
    given = ("-o", tmp_path / "o", "--turntable", "--frames", 2, "--size", 16)
    assert mvtf("export", saved, *given).code == 0
    before = stamps(tmp_path / "o")
    assert mvtf("export", moved, *given).code == 0
    refused = mvtf("export", other, *given)
    assert refused.code == 2
    assert "turntable" in refused.err
    assert "field.sha256" in refused.err
    assert stamps(tmp_path / "o") == before


BAD = {
    "size": (("--turntable", "--size", 31), "size is 31; H.264 needs an even one"),
    "nothing": ((), "nothing to export"),
    "frames": (("--turntable", "--frames", 0), "0 frames were asked for"),
    "fps": (("--turntable", "--fps", 0), "fps is 0"),
    "elevation": (("--turntable", "--elevation", 90), "elevation is 90"),
    "camera": (("--turntable", "--camera", "fisheye"), "camera is 'fisheye'"),
    "device": (("--turntable", "--device", "cuda:77"), "--device cuda:77"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings_are_one_sentence(mvtf: Mvtf, saved: Path, tmp_path: Path, case: str) -> None:
    options, sentence = BAD[case]
    done = mvtf("export", saved, "-o", tmp_path / "o", *options)
    assert done.code == 2
    assert sentence in done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert "Traceback" not in done.err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("verb", ["export", "render"])
def test_files_that_are_no_fields_are_refused(mvtf: Mvtf, tmp_path: Path, verb: str) -> None:
    text, other = tmp_path / "notes.safetensors", tmp_path / "other.safetensors"
    text.write_text("not a field")
    save_file({"x": torch.zeros(2)}, other)
    more = ("--turntable", "--frames", 1) if verb == "export" else ()
    for path in (tmp_path / "missing.safetensors", tmp_path, text, other):
        done = mvtf(verb, path, "-o", tmp_path / "o", *more)
        assert done.code == 2
        assert str(path) in done.err
        assert "Traceback" not in done.err
        assert not (tmp_path / "o").exists()


def test_two_pictures_do_not_fit_into_one_file(mvtf: Mvtf, saved: Path, tmp_path: Path) -> None:
    done = mvtf("render", saved, "-o", tmp_path / "a.png", "--time", 0, "--time", 1)
    assert done.code == 2
    assert "2 pictures do not fit into one" in done.err
    assert mvtf("render", saved, "-o", tmp_path / "a.png", "--time", 1.5).code == 2


@pytest.mark.parametrize("verb", ["export", "render"])
def test_help_has_an_example(mvtf: Mvtf, verb: str) -> None:
    done = mvtf(verb, "--help")
    assert done.code == 0
    assert f"Example: mvtf {verb} " in " ".join(done.out.split())


TIMES = (0.0, 0.25, 0.5, 0.75, 1.0)


def test_fields_of_rivals_are_exported(mvtf: Mvtf, tmp_path: Path) -> None:
    field, out = write_planes(tmp_path / "field.safetensors", TIMES), tmp_path / "out"
    given = ("export", tmp_path / "field.safetensors", "-o", out, "--frames", 2, "--size", 32, "--fps", 5)
    done = mvtf(*given, "--fixed", "75", "--ply")
    assert done.code == 0, done.err
    with torch.no_grad():
        moment = field.at(1.0)
        seen = field.render(ExportView(size=32).cameras([75.0]), 1.0, background=(0, 0, 0))
    read = read_ply(out / "ply" / "0001.ply")
    torch.testing.assert_close(read.means, moment.means, atol=1e-5, rtol=0)
    rgba = read_rgba(out / "azimuth_75" / "frames" / "0001.png") / 255
    assert np.abs(rgba[..., 3:] - seen.alpha[0].numpy()).max() < 0.003
    assert np.abs(rgba[..., :3] * rgba[..., 3:] - seen.rgb[0].numpy()).max() < 0.006


def test_a_radiance_field_has_pictures_and_no_gaussians(mvtf: Mvtf, tmp_path: Path) -> None:
    field = write_radiance(tmp_path / "field.safetensors", TIMES)
    whole = tmp_path / "one.png"
    done = mvtf(
        "render", tmp_path / "field.safetensors", "--azimuth", 30, "--time", 0.5, "--size", 24, "-o", whole
    )
    assert done.code == 0, done.err
    seen = field.render(ExportView(size=24).cameras([30.0]), 0.5)
    assert float(seen.alpha.max()) > 0.1
    assert np.abs(composite_white(read_rgba(whole)) / 255 - seen.rgb[0].numpy()).max() < 0.006
    refused = mvtf("export", tmp_path / "field.safetensors", "-o", tmp_path / "out", "--ply")
    assert refused.code == 2
    assert "a radiance field, which has no Gaussians; leave out --ply" in refused.err
    assert not (tmp_path / "out").exists()


def test_a_rivals_field_states_its_size_of_fit(mvtf: Mvtf, tmp_path: Path) -> None:
    write_planes(tmp_path / "field.safetensors", TIMES)
    refused = mvtf("render", tmp_path / "field.safetensors", "-o", tmp_path / "x.png", "--fit-size", 64)
    assert refused.code == 2
    assert "a field of dg4d, which states its size of fit; leave out --fit-size" in refused.err
