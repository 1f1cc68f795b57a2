"""The data of a viewer's page: what is read again, which bytes, what is refused; `mvtf view` end to end."""

import json
import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from manifests import make_manifest
from moving import moving_field
from rival_fields import write_planes, write_radiance

from mvtokenflow.base.errors import DataError
from mvtokenflow.eval.records.rows import load_runs, run_folder
from mvtokenflow.reports.site import build_site
from mvtokenflow.splat.gaussians import Gaussians
from mvtokenflow.splat.io import save_field, write_ply
from mvtokenflow.viewer.fields import pack_dynamic
from mvtokenflow.viewer.packing import MAX_BYTES, Packed, Timing, pack_moments
from mvtokenflow.viewer.page import SCRIPTS, viewer_page
from mvtokenflow.viewer.rotations import pack_quaternions, unpack_quaternions
from mvtokenflow.viewer.sections import exact, join, quantised, split
from mvtokenflow.viewer.sources import pack_source
from mvtokenflow.workdir.artefacts import Artefact

Mvtf = Callable[..., Any]  # of tests/conftest.py
TIMES = (0.0, 0.25, 0.5, 1.0)


def tables(packed: Packed) -> dict[str, Any]:
    """The tables of packed data, as another program reads them."""
    return {name: one.values() for name, one in split(packed.header["sections"], packed.stream).items()}


def test_tables_are_read_again_to_half_a_step() -> None:
    values = np.random.default_rng(0).normal(size=(60, 3))
    sections = [
        quantised("u8", values, "u8"),
        quantised("u16", values, "u16", (-9.0, 9.0), difference=20),
        exact("whole", np.arange(60), "u16"),
        exact("float", values, "f32"),
    ]
    found = split([one.described() for one in sections], join(sections))
    for name, levels, span in (("u8", 255, np.ptp(values, axis=0)), ("u16", 65535, 18.0)):
        assert (np.abs(found[name].values() - values) <= 0.5001 * span / levels).all(), name
    assert found["whole"].values().ravel().tolist() == list(range(60))
    assert np.array_equal(found["float"].values(), values.astype(np.float32))


def test_quaternions_are_read_again_to_a_quarter_of_a_degree() -> None:
    quats = np.random.default_rng(0).normal(size=(5000, 4)) * 3
    unit = quats / np.linalg.norm(quats, axis=1, keepdims=True)
    read = unpack_quaternions(pack_quaternions(quats))
    apart = 2 * np.degrees(np.arccos(np.clip(np.abs((unit * read).sum(axis=1)), 0, 1)))
    assert apart.max() < 0.25
    assert np.allclose(np.linalg.norm(read, axis=1), 1)


@pytest.mark.parametrize("rotation", ["frame", "residual"])
def test_a_field_is_read_again(rotation: str) -> None:
    """Control points move the Gaussians of the data as the field moves its own."""
    field = moving_field(rotation=rotation)
    packed = pack_dynamic(field, "toy", Timing(times=TIMES))
    header, read = packed.header, tables(packed)
    assert (header["kind"], header["nodes"], header["neighbours"]) == ("skinned", 8, 3)
    assert field.control is not None
    motion = field.control.motion(TIMES)
    count = header["nodes"]
    assert np.abs(read["motion"][count : 2 * count, :3] - motion.translation[1].detach().numpy()).max() < 1e-4
    means = field.gaussians.means.detach().numpy()
    gaps = np.linalg.norm(read["means"][:, None] - means[None], axis=-1).min(axis=1)
    assert gaps.max() < 1e-4
    assert np.allclose(read["weights"].sum(axis=1), 1, atol=0.01)
    assert read["indices"].max() < count


def test_equal_fields_give_equal_bytes_and_other_ones_others() -> None:
    one, same = (pack_dynamic(moving_field(), "toy", Timing(times=TIMES)) for _ in range(2))
    other = pack_dynamic(moving_field(seed=1), "toy", Timing(times=TIMES))
    assert (one.header, one.stream) == (same.header, same.stream)
    assert one.stream != other.stream


def test_gaussians_that_only_move_are_linked_and_stored_once() -> None:
    field = moving_field()
    with torch.no_grad():
        moments = field.at_many(TIMES)
    packed = pack_moments(moments, "toy", Timing(times=TIMES))
    rows = {one["name"]: one["rows"] for one in packed.header["sections"]}
    assert packed.header["linked"]
    assert (rows["means"], rows["colours"]) == (4 * len(moments[0]), len(moments[0]))
    changed = [*moments[:3], replace(moments[3], opacities=moments[3].opacities * 0.9)]
    loose = pack_moments(changed, "toy", Timing(times=TIMES))
    assert not loose.header["linked"]
    assert {one["name"]: one["rows"] for one in loose.header["sections"]}["colours"] == 4 * len(moments[0])


def test_gaussians_that_cannot_be_seen_are_left_out() -> None:
    field = moving_field()
    with torch.no_grad():
        field.gaussians.logit_opacities[:100] = -6.0  # fainter than 1/255
    assert pack_dynamic(field, "toy", Timing(times=TIMES)).header["count"] == len(field.gaussians) - 100


def bad(**changes: Any) -> Gaussians:
    with torch.no_grad():
        return replace(moving_field().at(0.0), **changes)


@pytest.mark.parametrize(
    ("moments", "timing", "said"),
    [
        ([bad(opacities=torch.zeros(300))], (0.0,), "no Gaussian can be seen"),
        ([bad(means=torch.full((300, 3), torch.nan))], (0.0,), "NaN or infinite"),
        ([bad(colors=torch.full((300, 3), torch.inf))], (0.0,), "NaN or infinite"),
        ([bad()], (0.0, 1.0), "1 moments at 2 times"),
        ([bad(), bad()], (0.5, 0.5), "increasing"),
    ],
)
def test_wrong_moments_are_refused(moments: list[Gaussians], timing: tuple[float, ...], said: str) -> None:
    with pytest.raises(DataError, match=said):
        pack_moments(moments, "toy", Timing(times=timing))


def test_too_much_for_a_page_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_BYTES == 16 * 2**20
    monkeypatch.setattr("mvtokenflow.viewer.packing.MAX_BYTES", 1000)
    with pytest.raises(DataError, match="show fewer frames of it"):
        pack_dynamic(moving_field(), "toy", Timing(times=TIMES))


def test_damaged_data_are_refused() -> None:
    packed = pack_dynamic(moving_field(), "toy", Timing(times=TIMES))
    entries = packed.header["sections"]
    with pytest.raises(DataError, match="damaged"):
        split(entries, b"?" + packed.stream[1:])
    with pytest.raises(DataError, match="its header states"):
        split(entries[:-1], packed.stream)


def test_a_page_holds_all_it_needs_and_forbids_everything_else() -> None:
    packed = pack_dynamic(moving_field(), 'a "toy" <1>', Timing(times=TIMES))
    page = viewer_page([packed], title="x </script> y", missing=[("z", "it is <a radiance field>")])
    assert "default-src 'none'" in unescape(page)
    assert not re.search(r"""(src|href)=["'](?!data:)""", page.replace('href="data:,"', ""))
    (entry,) = re.findall(r'<script type="application/x-mvtf4d" data-meta="([^"]*)">([^<]*)</script>', page)
    assert json.loads(unescape(entry[0])) == json.loads(json.dumps(packed.header))
    assert b64decode(entry[1]) == packed.stream
    assert "x &lt;/script&gt; y" in page
    assert "it is &lt;a radiance field&gt;" in page


def test_the_script_is_small() -> None:
    folder = Path(viewer_page.__code__.co_filename).parent / "templates"
    assert sum((folder / name).stat().st_size for name in SCRIPTS) <= 60_000


def test_two_fields_need_two_names() -> None:
    packed = pack_dynamic(moving_field(), "toy", Timing(times=TIMES))
    with pytest.raises(DataError, match="two fields have one name"):
        viewer_page([packed, packed], title="x")


# ---- sources and the command ----


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A field, its .ply sequence, a rival's field and one without Gaussians."""
    place, field = tmp_path_factory.mktemp("view"), moving_field()
    save_field(place / "field.safetensors", field)
    with torch.no_grad():
        for n, moment in enumerate(field.at_many(TIMES)):
            write_ply(place / "ply" / f"{n:04d}.ply", moment)
    write_planes(place / "rival.safetensors", TIMES)
    write_radiance(place / "radiance.safetensors", TIMES)
    return place


def test_fields_of_rivals_and_sequences_are_packed(folder: Path) -> None:
    ours = pack_source(folder / "field.safetensors", "ours", frames=5)
    assert (ours.header["kind"], ours.header["times"]) == ("skinned", [0.0, 0.25, 0.5, 0.75, 1.0])
    rival = pack_source(folder / "rival.safetensors", "rival")
    assert (rival.header["kind"], rival.header["linked"]) == ("moments", True)
    assert rival.header["times"] == list(TIMES)
    sequence = pack_source(folder / "ply", "files")
    assert (len(sequence.header["counts"]), sequence.header["pixel"]) == (4, None)
    assert len(pack_source(folder / "ply", "files", frames=2).header["counts"]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["radiance.safetensors"], "a radiance field, which has no Gaussians; look at its pictures instead"),
        (["nothing.safetensors"], "no such file or folder; give a field.safetensors"),
        (["."], "holds no .ply"),
        (["x=field.safetensors", "x=ply"], "two fields have one name"),
        (["field.safetensors", "--frames", "0"], "0 frames were asked for"),
        (["field.safetensors", "--fps", "0"], "the rate is 0"),
    ],
)
def test_wrong_fields_are_refused_and_no_page_is_left(
    mvtf: Mvtf, folder: Path, tmp_path: Path, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    code, _, message = mvtf("view", *arguments, "-o", tmp_path / "page.html")
    assert code == 2, message
    assert said in " ".join(message.split())
    assert not (tmp_path / "page.html").exists()


def test_a_page_needs_a_name_of_a_page(mvtf: Mvtf, folder: Path, tmp_path: Path) -> None:
    code, _, message = mvtf("view", folder / "field.safetensors", "-o", tmp_path / "page")
    assert code == 2
    assert "ends in .html" in " ".join(message.split())


def test_view_writes_one_page(mvtf: Mvtf, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "toys.html"
    fields = [f"ours={folder / 'field.safetensors'}", f"rival={folder / 'rival.safetensors'}", folder / "ply"]
    code, printed, message = mvtf("view", *fields, "-o", out, "--json")
    assert code == 0, message
    made = json.loads(printed)
    assert [one["name"] for one in made["fields"]] == ["ours", "rival", "ply"]
    assert made["bytes"] == out.stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toys.html"]
    before = out.read_bytes()
    assert mvtf("view", *fields, "-o", out)[0] == 0
    assert out.read_bytes() == before


def test_scene_pages_link_to_a_viewer_of_all_rows_with_a_field(folder: Path, tmp_path: Path) -> None:
    """A radiance field is named with the reason; a scene without fields has no viewer."""
    runs = tmp_path / "runs"
    for method, name in (("ours", "field"), ("rival", "rival"), ("nerf", "radiance"), ("pictures", "")):
        run = run_folder(runs, "toy4d", method, "fox" if name else "cat", 0, "c0ffee" * 4)
        artefacts = []
        if name:
            (run / "work").mkdir(parents=True)
            (run / "work" / "field.safetensors").write_bytes((folder / f"{name}.safetensors").read_bytes())
            artefacts = [Artefact(kind="field", name="fit", title="Fit", path="work/field.safetensors")]
        make_manifest(
            **{"dataset": "toy4d", "method": method, "scene": "fox" if name else "cat", "frames": 4},
            **{"artefacts": artefacts, "reference_root": str(tmp_path), "config_hash": "c0ffee" * 4},
            **{"views": [{"name": "eval_0", "azimuth_deg": 15.0, "elevation_deg": 0.0}]},
        ).save(run / "manifest.json")
    build_site([], list(load_runs(runs)), tmp_path / "site")
    scenes = tmp_path / "site" / "scenes"
    assert 'href="toy4d--fox.viewer.html"' in (scenes / "toy4d--fox.html").read_text()
    assert "viewer.html" not in (scenes / "toy4d--cat.html").read_text()
    page = (scenes / "toy4d--fox.viewer.html").read_text()
    labels = [json.loads(unescape(meta))["label"] for meta in re.findall(r'data-meta="([^"]*)"', page)]
    assert labels == ["ours", "rival"]
    assert "<b>nerf</b> is not here" in page
    assert "a radiance field" in page
    assert str(tmp_path) not in page
    assert 'href="toy4d--fox.html"' in page
