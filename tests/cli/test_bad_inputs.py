"""Known-bad inputs of `mvtf-eval score`: one clear sentence with file and fix, exit code 2, nothing lost."""

import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Break = Callable[[Path, Path], None]


@dataclass(frozen=True)
class Case:
    """A way to break a good prediction, and words the message must hold."""

    name: str
    spoil: Break
    says: tuple[str, ...]
    protocol: str = "c4d-fixed-v1"
    extra: tuple[str, ...] = ()


def _frame(root: Path, view: str = "eval_1", number: int = 1) -> Path:
    return root / "cat" / view / f"{number}.png"


def _save(mode: str) -> Break:
    def spoil(pred: Path, gt: Path) -> None:
        path = _frame(pred)
        Image.open(path).convert(mode).save(path)

    return spoil


def _write(data: bytes) -> Break:
    return lambda pred, gt: (_frame(pred).write_bytes(data), None)[1]


def _truncate(pred: Path, gt: Path) -> None:
    path = _frame(pred)
    path.write_bytes(path.read_bytes()[:-60])


def _sixteen_bit(pred: Path, gt: Path) -> None:
    Image.fromarray(np.zeros((48, 48), np.uint16)).save(_frame(pred))


def _jpeg_as_png(pred: Path, gt: Path) -> None:
    Image.open(_frame(pred)).save(_frame(pred), format="JPEG")


def _resize(size: tuple[int, int], whole: bool = False) -> Break:
    def spoil(pred: Path, gt: Path) -> None:
        views = ("eval_0", "eval_1", "eval_2", "eval_3") if whole else ("eval_1",)
        for view in views:
            for number in (0, 1) if whole else (1,):
                path = _frame(pred, view, number)
                Image.open(path).resize(size).save(path)

    return spoil


def _remove(*parts: str) -> Break:
    def spoil(pred: Path, gt: Path) -> None:
        path = pred.joinpath(*parts)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


def _remove_gt(*parts: str) -> Break:
    def spoil(pred: Path, gt: Path) -> None:
        path = gt.joinpath(*parts)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


def _copy(source: str, target: str) -> Break:
    return lambda pred, gt: (shutil.copy(pred / source, pred / target), None)[1]


def _rename(source: str, target: str) -> Break:
    return lambda pred, gt: ((pred / source).rename(pred / target), None)[1]


def _swap_views(pred: Path, gt: Path) -> None:
    (pred / "cat/eval_0").rename(pred / "cat/spare")
    (pred / "cat/eval_3").rename(pred / "cat/eval_0")
    (pred / "cat/spare").rename(pred / "cat/eval_3")


def _link_loop(pred: Path, gt: Path) -> None:
    path = _frame(pred)
    path.unlink()
    path.symlink_to(path)


def _dangling(pred: Path, gt: Path) -> None:
    path = _frame(pred)
    path.unlink()
    path.symlink_to(pred / "nowhere.png")


def _folder_as_frame(pred: Path, gt: Path) -> None:
    path = _frame(pred)
    path.unlink()
    path.mkdir()


def _file_as_view(pred: Path, gt: Path) -> None:
    shutil.rmtree(pred / "cat/eval_2")
    (pred / "cat/eval_2").write_text("not a folder")


def _rgba_gt_in_one_frame(pred: Path, gt: Path) -> None:
    Image.open(_frame(gt)).convert("RGBA").save(_frame(gt))


def _nothing(pred: Path, gt: Path) -> None:
    pass


CASES = [
    Case("rgba", _save("RGBA"), ("1.png", "RGBA where RGB", "white")),
    Case("palette", _save("P"), ("1.png", "RGB")),
    Case("grey", _save("L"), ("1.png", "RGB")),
    Case("grey with alpha", _save("LA"), ("1.png", "RGB")),
    Case("one bit", _save("1"), ("1.png", "RGB")),
    Case("sixteen bit", _sixteen_bit, ("1.png", "RGB")),
    Case("truncated", _truncate, ("1.png",)),
    Case("zero bytes", _write(b""), ("1.png", "write it again")),
    Case("text instead of a picture", _write(b"hello"), ("1.png", "write it again")),
    Case("jpeg named png", _jpeg_as_png, ("1.png",)),
    Case("one frame of another size", _resize((40, 40)), ("eval_1", "sizes", "40x40", "48x48")),
    Case("another shape", _resize((48, 24), whole=True), ("48x24", "48x48", "--force")),
    Case("a frame missing", _remove("cat", "eval_1", "1.png"), ("eval_1", "missing: 1", "--force")),
    Case("an extra frame", _copy("cat/eval_1/1.png", "cat/eval_1/2.png"), ("eval_1", "3 frames", "remove")),
    Case("another number", _rename("cat/eval_1/1.png", "cat/eval_1/7.png"), ("missing: 1", "--force")),
    Case("an index twice", _copy("cat/eval_1/1.png", "cat/eval_1/01.png"), ("01.png and 1.png", "remove one")),
    Case(
        "frame names with text",
        _rename("cat/eval_1/1.png", "cat/eval_1/frame_1.png"),
        ("frame_1.png", "move it"),
    ),
    Case("wrong suffix", _rename("cat/eval_1/1.png", "cat/eval_1/1.jpg"), ("1.jpg", "move it")),
    Case("a stray file", _copy("cat/eval_1/1.png", "cat/eval_1/notes.txt"), ("notes.txt", "move it")),
    Case("a view missing", _remove("cat", "eval_2"), ("eval_2", "render")),
    Case("an object missing", _remove("cat"), ("eval_", "right folder")),
    Case("a view that is a file", _file_as_view, ("eval_2", "render")),
    Case("views swapped", _swap_views, ("eval_0", "silhouettes", "mvtf-eval align")),
    Case("symlink to itself", _link_loop, ("1.png",)),
    Case("dangling symlink", _dangling, ("1.png",)),
    Case("a folder as a frame", _folder_as_frame, ("1.png",)),
    Case("no reference view", _remove_gt("cat", "eval_3"), ("eval_3", "no such folder")),
    Case("reference RGBA in one frame", _rgba_gt_in_one_frame, ("eval_1", "RGB")),
    Case("reference folder empty", _remove_gt("cat"), ("right folder",)),
    Case("unknown protocol", _nothing, ("c4d-v9", "Did you mean 'c4d-v1'?"), protocol="c4d-v9"),
    Case("unknown object", _nothing, ("dog", "it has cat"), extra=("--objects", "dog")),
    Case("unknown weights", _nothing, ("lpips-vg", "Did you mean"), extra=("--weights", "lpips-vg=.")),
    Case("weights without a path", _nothing, ("NAME=PATH",), extra=("--weights", "lpips-vgg")),
    Case("too few frames", _nothing, ("2 frames", "needs 30"), protocol="stag4d-30f-v1"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_bad_prediction_is_refused_in_one_sentence(case: Case, tmp_path: Path, layout, cli) -> None:  # type: ignore[no-untyped-def]
    pred, gt = layout(tmp_path / "pred"), layout(tmp_path / "gt")
    record = tmp_path / "record"
    record.mkdir()
    (record / "kept.txt").write_text("earlier work")
    case.spoil(pred, gt)
    outcome = cli(
        "score", pred, "--gt", gt, "--protocol", case.protocol, "--record", record, "--jobs", 1, *case.extra
    )
    assert outcome.code == 2, outcome
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    for words in case.says:
        assert words in errors[0]
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    assert (record / "kept.txt").read_text() == "earlier work"


@pytest.fixture
def without_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics that need no network are measured, the others are missing: nothing here is about values."""
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "no weights"))


@pytest.mark.usefixtures("without_networks")
def test_names_with_spaces_and_other_scripts_are_fine(tmp_path: Path, layout, cli) -> None:  # type: ignore[no-untyped-def]
    objects = ("blue jay", "蝶々", "çà&<b>")
    pred, gt = layout(tmp_path / "pred ü", objects), layout(tmp_path / "gt", objects)
    outcome = cli(
        "score",
        pred,
        "--gt",
        gt,
        "--protocol",
        "c4d-fixed-v1",
        "--record",
        tmp_path / "r",
        "--jobs",
        1,
        "--json",
        "--objects",
        "蝶々",
    )
    assert outcome.code == 0, outcome.err
    assert '"\\u8776\\u3005"' in outcome.out or "蝶々" in outcome.out


def test_wrong_weights_are_named_with_both_hashes(tmp_path: Path, layout, cli) -> None:  # type: ignore[no-untyped-def]
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ")
    pred, gt = layout(tmp_path / "pred"), layout(tmp_path / "gt")
    outcome = cli("score", pred, "--gt", gt, "--weights", f"lpips-vgg={wrong}", "--record", tmp_path / "r")
    assert outcome.code == 2
    assert "wrong.safetensors" in outcome.err
    assert outcome.err.count("sha256") >= 1


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, ("touch /tmp/mvtf-evil-was-here",))


def test_a_malicious_pickle_is_not_run(tmp_path: Path, layout, cli) -> None:  # type: ignore[no-untyped-def]
    evil = tmp_path / "evil.bin"
    evil.write_bytes(pickle.dumps(_Evil()))
    trace = Path("/tmp/mvtf-evil-was-here")
    trace.unlink(missing_ok=True)
    pred, gt = layout(tmp_path / "pred"), layout(tmp_path / "gt")
    outcome = cli("score", pred, "--gt", gt, "--weights", f"lpips-vgg={evil}", "--record", tmp_path / "r")
    assert outcome.code == 2
    assert not trace.exists()


@pytest.mark.usefixtures("without_networks")
def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path, layout, cli) -> None:  # type: ignore[no-untyped-def]
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    pred, gt = layout(tmp_path / "pred"), layout(tmp_path / "gt")
    record = tmp_path / "record"
    record.mkdir()
    (record / "rows.jsonl").symlink_to("/dev/full")
    outcome = cli("score", pred, "--gt", gt, "--record", record, "--jobs", 1)
    assert outcome.code == 2, outcome
    assert "No space left" in outcome.err
    (record / "rows.jsonl").unlink()
    assert cli("score", pred, "--gt", gt, "--record", record, "--jobs", 1).code == 0


@pytest.mark.usefixtures("without_networks")
def test_infinite_and_missing_values_are_null_with_a_reason(tmp_path: Path, layout, cli) -> None:  # type: ignore[no-untyped-def]
    import json

    pred, gt = layout(tmp_path / "pred"), layout(tmp_path / "gt")
    outcome = cli(
        "score", pred, "--gt", gt, "--record", tmp_path / "r", "--jobs", 1, "--protocol", "c4d-v1", "--json"
    )
    document = json.loads(outcome.out)
    assert document["average"]["psnr"] is None
    assert document["average"]["ssim"] == pytest.approx(1.0)
    assert any(entry["metric"] == "psnr" and "infinite" in entry["reason"] for entry in document["missing"])


@pytest.mark.usefixtures("without_networks")
def test_a_truncated_record_is_dropped_and_measured_again(tmp_path: Path, layout, cli) -> None:  # type: ignore[no-untyped-def]
    pred, gt = layout(tmp_path / "pred", shift=2), layout(tmp_path / "gt")
    record = tmp_path / "r"
    first = cli("score", pred, "--gt", gt, "--record", record, "--jobs", 1, "--json")
    rows = record / "rows.jsonl"
    whole = rows.read_bytes()
    rows.write_bytes(whole[: len(whole) // 2])
    again = cli("score", pred, "--gt", gt, "--record", record, "--jobs", 1, "--json")
    assert again.out == first.out
    assert sorted(rows.read_bytes().splitlines()) == sorted(whole.splitlines())


def test_a_damaged_record_is_refused(tmp_path: Path, layout, cli) -> None:  # type: ignore[no-untyped-def]
    pred, gt = layout(tmp_path / "pred", shift=2), layout(tmp_path / "gt")
    record = tmp_path / "r"
    record.mkdir()
    (record / "rows.jsonl").write_text("not json\n")
    outcome = cli("score", pred, "--gt", gt, "--record", record, "--jobs", 1)
    assert outcome.code == 2
    assert "rows.jsonl:1" in outcome.err


@pytest.mark.usefixtures("without_networks")
def test_two_single_objects_are_paired_whatever_their_folders_are_called(tmp_path: Path, layout, cli) -> None:  # type: ignore[no-untyped-def]
    pred, gt = layout(tmp_path / "a", ("mine",)) / "mine", layout(tmp_path / "b", ("cat",)) / "cat"
    outcome = cli("score", pred, "--gt", gt, "--record", tmp_path / "r", "--jobs", 1, "--json")
    assert outcome.code == 0, outcome.err
    assert '"cat"' in outcome.out
