"""Cutting the object out with rembg: what is kept, and what is said where it cannot be done."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mvtokenflow.base.errors import ConfigError, DataError, UserError, WeightsMissingError
from mvtokenflow.base.files import sha256_file
from mvtokenflow.media import segment
from mvtokenflow.media.pictures import Pixels, read_mask, write_png
from mvtokenflow.media.segment import MODEL, cut_out, each, load_segmenter, mask_paths
from mvtokenflow.weights import ledger
from mvtokenflow.weights.package_index import DownloadError

FRAMES = np.arange(3 * 6 * 8 * 3, dtype=np.uint8).reshape(3, 6, 8, 3)


def _half(frame: Pixels) -> Pixels:
    """Left: noise of a background, then edge; right: object."""
    mask = np.zeros(frame.shape[:2], np.uint8)
    mask[:, :2], mask[:, 2:4], mask[:, 4:] = 15, 100, 240
    return mask


def test_masks_become_alpha_and_are_kept(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    clip = cut_out(FRAMES, tmp_path, each(_half), "cat", lambda *call: calls.append(call))
    assert calls == [("segment", n, 3) for n in (1, 2, 3)]
    assert (clip.rgb.numpy() * 255).round().astype(np.uint8).tolist() == FRAMES.tolist()
    row = [0.0, 0.0, 100 / 255, 100 / 255, 1.0, 1.0, 1.0, 1.0]
    assert clip.alpha[1, 2, :, 0].tolist() == pytest.approx(row)
    assert sorted(tmp_path.iterdir()) == mask_paths(tmp_path, 3)


def test_missing_masks_alone_are_made(tmp_path: Path) -> None:
    first = cut_out(FRAMES, tmp_path, each(_half), "cat")
    mask_paths(tmp_path, 3)[1].unlink()
    made: list[int] = []

    def noted(frame: Pixels) -> Pixels:
        made.append(int(frame[0, 0, 0]))
        return _half(frame)

    second = cut_out(FRAMES, tmp_path, each(noted), "cat")
    assert made == [FRAMES[1, 0, 0, 0]]
    assert (first.alpha == second.alpha).all()
    assert (cut_out(FRAMES, tmp_path, None, "cat").alpha == first.alpha).all()
    mask_paths(tmp_path, 3)[2].unlink()
    with pytest.raises(DataError, match=r"0002\.png: no such mask"):
        cut_out(FRAMES, tmp_path, None, "cat")


@pytest.mark.parametrize(("level", "found"), [(10, "nothing"), (100, "nothing"), (250, "everything")])
def test_a_mask_that_finds_no_object_is_refused(tmp_path: Path, level: int, found: str) -> None:
    with pytest.raises(DataError, match=f"cat frame 0: {found} was taken for the object"):
        cut_out(FRAMES, tmp_path, each(lambda frame: np.full(frame.shape[:2], level, np.uint8)), "cat")


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    write_png(mask_paths(tmp_path, 3)[0], np.full((4, 4), 255, np.uint8))
    with pytest.raises(DataError, match="does not fit the frames"):
        cut_out(FRAMES, tmp_path, each(_half), "cat")
    assert read_mask(mask_paths(tmp_path, 3)[0]).shape == (4, 4)


def _raises(error: BaseException) -> SimpleNamespace:
    def new_session(model: str) -> None:
        assert model == MODEL
        raise error

    return SimpleNamespace(new_session=new_session)


@pytest.mark.parametrize(
    ("module", "error", "sentence"),
    [
        (None, ConfigError, r"pip install 'rembg\[cpu\]'"),
        (_raises(ValueError("MD5 hash does not match")), WeightsMissingError, "MD5 hash does not match"),
        (_raises(OSError()), WeightsMissingError, "weights \\(OSError\\)"),
    ],
)
def test_what_is_missing_is_said_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch, module: object, error: type[UserError], sentence: str
) -> None:
    monkeypatch.setitem(sys.modules, "rembg", module)
    monkeypatch.setattr(segment, "_network", lambda: Path("isnet-general-use.onnx"))
    with pytest.raises(error, match=sentence):
        load_segmenter()


def test_the_network_of_rembg_comes_from_the_ledger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From its folder, from rembg's own, by its name alone; else the command that gets it is named."""
    homes: list[str] = []
    rembg = SimpleNamespace(new_session=lambda model: homes.append(os.environ["U2NET_HOME"]))
    monkeypatch.setitem(sys.modules, "rembg", rembg)
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "theirs"))
    monkeypatch.delenv("MVTF_WEIGHTS_REMBG_ISNET", raising=False)

    def refuse(*arguments: object, **options: object) -> None:
        raise DownloadError("no route to host")

    monkeypatch.setattr("mvtokenflow.weights.sources.download", refuse)
    with pytest.raises(
        WeightsMissingError, match=r"no route to host.*MVTF_WEIGHTS_REMBG_ISNET; or give a mask"
    ):
        load_segmenter()
    for folder in ("theirs", "weights"):
        path = tmp_path / folder / f"{MODEL}.onnx"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"network")
    entry = ledger.WEIGHTS["rembg-isnet"]
    pinned = replace(entry, files=(replace(entry.files[0], sha256=sha256_file(path)),))
    monkeypatch.setattr(ledger, "WEIGHTS", {entry.name: pinned})
    load_segmenter()
    path.unlink()
    load_segmenter()
    assert homes == [str(tmp_path / "weights"), str(tmp_path / "theirs")]
    assert os.environ["U2NET_HOME"] == str(tmp_path / "theirs")
    (tmp_path / "theirs" / f"{MODEL}.onnx").rename(tmp_path / "net.onnx")
    monkeypatch.setenv("MVTF_WEIGHTS_REMBG_ISNET", str(tmp_path / "net.onnx"))
    with pytest.raises(
        WeightsMissingError, match=f"net.onnx: rembg reads it by its name alone; name it {MODEL}"
    ):
        load_segmenter()


def test_rembg_without_onnxruntime_ends_the_process_unless_caught(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "rembg.py").write_text("import sys\nsys.exit(1)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "rembg", raising=False)
    with pytest.raises(ConfigError, match="rembg"):
        load_segmenter()
