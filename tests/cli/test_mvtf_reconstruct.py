"""`mvtf reconstruct` from a folder to a field, again, and with wrong input."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mvtokenflow.datasets.toy4d.scenes import render_scene
from mvtokenflow.datasets.toy4d.stream import six_views
from mvtokenflow.splat.io import load_field
from mvtokenflow.views.folder import MultiviewVideo, write_multiview
from mvtokenflow.workdir.folder import claim

SMALL = [
    *("--fit-size", "24", "--frames", "3", "--set", "static.iterations=12", "--set", "coarse.iterations=8"),
    *("--set", "refine.iterations=6", "--set", "points=200", "--set", "field.control_points=8"),
]
Run = Callable[..., tuple[int, str, str]]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four frames of a toy at 32 pixels."""
    seen = render_scene("robot-01", six_views(32), [0, 0.3, 0.6, 1.0], samples=2)
    video = MultiviewVideo(
        rgb=torch.from_numpy(seen.rgb).clamp(0, 1), alpha=torch.from_numpy(seen.alpha), cameras=six_views(32)
    )
    root = tmp_path_factory.mktemp("robot") / "views"
    write_multiview(root, video)
    return root


def test_a_folder_becomes_a_field_and_a_second_call_changes_nothing(
    mvtf: Run, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, printed, messages = mvtf("reconstruct", folder, "--cameras", "era3d", "-o", out, *SMALL, "--json")
    assert code == 0, messages
    result = json.loads(printed)
    assert (result["frames"], result["views"], result["size"]) == (3, 6, 24)
    assert load_field(Path(result["field"])).is_dynamic
    assert (out / "comparison.png").is_file()
    assert (out / "refined" / "refine" / "preview_00006.png").is_file()
    first = (out / "field.safetensors").read_bytes()
    code, printed, messages = mvtf("reconstruct", folder, "--cameras", "era3d", "-o", out, *SMALL)
    assert code == 0, messages
    assert f"{result['training_views_psnr_db']:.2f} dB" in printed
    assert (out / "field.safetensors").read_bytes() == first
    code, _, messages = mvtf(
        "reconstruct", folder, "--cameras", "era3d", "-o", out, *SMALL, "--set", "points=201"
    )
    assert code == 2
    assert "config.points is 200 there, 201 here" in messages
    code, _, messages = mvtf("reconstruct", folder, "--cameras", "era3d", "-o", out, *SMALL, "--no-refine")
    assert code == 2
    assert "refine is true there, false here" in messages
    assert (out / "field.safetensors").read_bytes() == first


def test_the_distance_of_orthographic_cameras_is_of_no_account(mvtf: Run, folder: Path, tmp_path: Path) -> None:
    short = ("--frames", "2", *(f"--set={stage}.iterations=2" for stage in ("static", "coarse")), "--no-refine")
    fields = []
    for distance in (2.0, 0.0):
        cameras = six_views(32).to_dict()
        for pose in cameras["world_to_camera"]:
            pose[2][3] = distance
        file = tmp_path / f"{distance}.json"
        file.write_text(json.dumps(cameras))
        out = tmp_path / f"out {distance}"
        code, _, messages = mvtf("reconstruct", folder, "--cameras", file, "-o", out, *SMALL, *short)
        assert code == 0, messages
        fields.append((out / "field.safetensors").read_bytes())
    assert fields[0] == fields[1]


def test_the_result_of_another_verb_is_not_replaced(mvtf: Run, folder: Path, tmp_path: Path) -> None:
    claim(tmp_path / "run", {"config": {"stride": 2}, "prior": "small", "seed": 0})
    (tmp_path / "run" / "field.safetensors").write_bytes(b"made by mvtf run")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "field.safetensors").write_bytes(b"made by somebody")
    for name, reason in (("run", "belongs to another run"), ("mine", "give a new or empty folder")):
        before = {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        code, _, messages = mvtf("reconstruct", folder, "--cameras", "era3d", "-o", tmp_path / name, *SMALL)
        assert code == 2
        assert reason in messages
        assert {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--cameras", "era"), "choose era3d, zero123plus"),
        (("--cameras", "none.json"), "no such file"),
        (("--preset", "tiny"), "Known: mini, paper"),
        (("--set", "points"), "write it as name=value"),
        (("--frames", "9"), "has 4 frames, 9 were asked for"),
        (("--fit-size", "64"), "cannot become 64x64"),
        (("--set", "keyframe=8"), "keyframe is 8"),
        (("--device", "tpu"), "not on this machine"),
    ],
)
def test_what_the_user_can_mend_ends_with_2(
    mvtf: Run, folder: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    code, printed, messages = mvtf("reconstruct", folder, "-o", tmp_path / "out", *arguments)
    assert code == 2
    assert message in messages
    assert "Traceback" not in messages
    assert not printed
    assert not (tmp_path / "out").exists()  # so that the mended call is not another run


def test_a_missing_folder_is_named_and_help_has_an_example(mvtf: Run, tmp_path: Path) -> None:
    code, _, messages = mvtf("reconstruct", tmp_path / "nowhere", "-o", tmp_path / "out")
    assert code == 2
    assert "nowhere: no such file or folder" in messages
    code, printed, _ = mvtf("reconstruct", "--help")
    assert code == 0
    assert "Example: mvtf reconstruct" in printed
