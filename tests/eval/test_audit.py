"""The second opinion: it agrees with what is measured here, and finds what was tampered with."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from mvtokenflow.base.errors import DataError, WeightsMissingError
from mvtokenflow.base.files import sha256_file
from mvtokenflow.eval.metrics import clip as clip_metric
from mvtokenflow.eval.metrics.compute import clip as clip_network
from mvtokenflow.eval.protocols import PROTOCOLS
from mvtokenflow.eval.records.rows import Row
from mvtokenflow.eval.score import libraries
from mvtokenflow.eval.score.audit import TOLERANCES, Cell, audit, cells_of_runs
from mvtokenflow.eval.score.libraries import Libraries, UncheckedError
from mvtokenflow.weights import ledger

Cli = Callable[..., Any]


@pytest.fixture
def runs(tiny: Any, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two methods on a scene of 32 px, measured without weights."""
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    place = ("--dataset", "tinyscenes:Tiny", "--root", tmp_path / "data", "--runs", tmp_path / "runs")
    chosen = ("--methods", "ground-truth,tinyscenes:NATIVE", "--scenes", "ant", "--protocol", "toy4d-v1")
    done = cli("table2", *place, *chosen, "--jobs", 1)
    assert done.code == 0, done.err
    return tmp_path / "runs"


def _audit(cli: Cli, runs: Path, *words: object) -> Any:
    place = ("--dataset", "tinyscenes:Tiny", "--root", runs.parent / "data")
    return cli("audit", runs, *place, *words)


def test_records_of_runs_agree_with_the_libraries(runs: Path, cli: Cli) -> None:
    done = _audit(cli, runs, "--sample", 100, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["passed"], found["frames"], found["known"]) == (True, 32, 32)  # 2 methods, 4 views, 4 frames
    compared = {(d["metric"], d["library"].split()[0]): d for d in found["differences"]}
    assert set(compared) == {(m, name) for m in ("psnr", "ssim") for name in ("scikit-image", "torchmetrics")}
    assert all(d["frames"] == 32 for d in compared.values())
    # equal pictures have 100 dB by the cap; others must be there, or nothing was compared
    assert compared["psnr", "torchmetrics"]["largest"] > 0
    assert found["unchecked"]["warp"] == "no library of the field measures it"


def _change(log: Path, of: tuple[str, str, int], by: float) -> dict[str, Any]:
    """Add to the value of one record."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    mine: dict[str, Any] = next(r for r in lines if (r["metric"], r["view"], r["frame"]) == of)
    mine["value"] += by
    log.write_text("".join(json.dumps(r) + "\n" for r in lines))
    return mine


def test_a_value_that_was_changed_is_named(runs: Path, cli: Cli) -> None:
    (log,) = runs.glob("tiny/native/ant/*/rows.jsonl")
    mine = _change(log, ("ssim", "eval_1", 2), 1e-6)
    done = _audit(cli, runs, "--sample", 40)
    assert done.code == 1
    assert "ssim, scikit-image" in done.out
    named = [line for line in done.out.splitlines() if line.startswith(f"{log}: ")]
    assert len(named) == 2  # both libraries
    assert all("ssim of ant/eval_1, frame 2 is 0.9" in line and mine["key"][:12] in line for line in named)
    assert "2 BEYOND" not in done.out
    assert done.out.count("1 BEYOND") == 2


def test_pictures_that_are_gone_are_one_sentence(runs: Path, cli: Cli) -> None:
    for path in runs.glob("tiny/native/ant/*/pred/eval_0/3.png"):
        path.unlink()
    done = _audit(cli, runs, "--sample", 40)
    assert (done.code, done.out) == (2, "")
    assert "eval_0, frame 3 is on record, but its pictures are gone; score it again" in done.err


def test_only_runs_of_the_dataset_are_looked_at(runs: Path, cli: Cli, tmp_path: Path) -> None:
    done = cli("audit", runs, "--dataset", "toy4d", "--root", tmp_path / "toys")
    assert done.code == 2
    assert "holds no run of toy4d that was scored; make a table there first" in done.err


def test_the_sample_depends_on_its_seed_alone(runs: Path, tiny: Any) -> None:
    dataset = tiny.Tiny(runs.parent / "data")

    def drawn(seed: int) -> list[tuple[str, str, int | None]]:
        cells, metrics = cells_of_runs(runs, dataset)
        seen: list[tuple[str, str, int | None]] = []

        def note(cell: Cell) -> Cell:
            def locate(row: Row) -> tuple[Path, Path]:
                seen.append((cell.place, row.view, row.frame))
                return cell.locate(row)

            return replace(cell, locate=locate)

        audit([note(cell) for cell in cells], metrics, 5, seed)
        return seen

    first = drawn(0)
    assert len(set(first)) == 5
    for log in runs.rglob("rows.jsonl"):
        log.write_text("".join(reversed(log.read_text().splitlines(keepends=True))))
    assert drawn(0) == first
    assert drawn(1) != first


@pytest.mark.slow
def test_score_checks_its_own_values(
    layout: Any, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the protocol of the scripts: automatic ranges, a cropped border, pictures squashed to 512 px."""
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    given = (layout(tmp_path / "pred", shift=1), "--gt", layout(tmp_path / "gt"), "--jobs", 1)
    place = ("--record", tmp_path / "r", "--protocol", "c4d-v1")
    done = cli("score", *given, *place, "--check", 2)
    assert done.code == 0, done.err
    assert "2 of 8 frames measured again" in done.err
    assert done.err.count("over 2 frames, tolerance") == 4
    assert done.err.count(": ok") == 4
    log = tmp_path / "r" / "rows.jsonl"
    _change(log, ("psnr", "eval_0", 0), 1e-3)
    done = cli("score", *given, *place, "--check", 8, "--json")
    assert done.code == 1
    assert set(json.loads(done.out)) == {"protocol", "objects", "average", "missing", "signatures"}
    assert f"{log}: psnr of cat/eval_0, frame 0 is " in done.err


def _row(metric: str, signature: str) -> Row:
    return Row(
        key="k" * 20, object="cat", view="eval_0", frame=0, metric=metric, value=0.0, signature=signature
    )


@pytest.mark.parametrize(
    ("metric", "signature", "reason"),
    [
        ("psnr", "psnr|v:2|range:255|cap:100.0|p:a|res:native", "does not support the setting v:2"),
        ("psnr", "psnr|v:1|range:255|cap:100.0|gamma:2|p:a|res:native", "does not support the setting gamma:2"),
        ("ssim", "ssim|v:1|range:255|p:a|res:native", "does not state how it was measured"),
        ("ssim", "psnr|v:1|range:255|cap:100.0|p:a|res:native", "does not state how it was measured"),
        ("lpips", "lpips|v:1|net:vgg|scale:-1..1|p:a|res:native|w:1e3836f5", "is not there"),
    ],
)
def test_what_the_libraries_cannot_measure_has_a_reason(
    metric: str, signature: str, reason: str, layout: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    picture = layout(tmp_path / "gt") / "cat" / "eval_0" / "0.png"
    with pytest.raises(UncheckedError, match=reason):
        Libraries({}).measure(_row(metric, signature), picture, picture)


def test_every_signature_of_the_checked_metrics_is_understood() -> None:
    """A setting that is added to one of them must be added to the audit."""
    seen = set()
    for protocol in PROTOCOLS.values():
        for spec in protocol.metrics:
            if spec.key in TOLERANCES:
                weights = "|w:12345678" if spec.weights else ""
                signature = f"{protocol.signature(spec)}{weights}|gt:rgba-on-white|forced"
                assert libraries._settings(_row(spec.key, signature))["p"] == protocol.name
                seen.add(spec.key)
    assert seen == set(TOLERANCES)


def test_nothing_to_check_is_said() -> None:
    with pytest.raises(DataError, match="none of clip, lpips, psnr, ssim is on record for any frame"):
        audit([], {"warp"}, 3)


def test_the_lpips_package_with_the_weights_of_the_ledger(layout: Any, tmp_path: Path) -> None:
    """The sparse network of this package against the dense one of theirs."""
    from mvtokenflow.eval.metrics.compute.lpips import LpipsNetwork

    try:
        sha = ledger.fingerprint("lpips-alex")
    except WeightsMissingError as missing:
        pytest.skip(str(missing))
    pred, gt = (layout(tmp_path / name, shift=n, size=64) / "cat/eval_0/0.png" for n, name in enumerate("pg"))
    network = LpipsNetwork("alex", ledger.load("lpips-alex"), input_range="[0,1]")
    ours = network.distance(*(network.features(libraries._read(path, None)) for path in (pred, gt)))
    signature = f"lpips|v:1|net:alex|scale:0..1|p:a|res:native|agg:x|w:{sha[:8]}"
    (value,) = Libraries({}).measure(_row("lpips", signature), pred, gt).values()
    assert 0.01 < value == pytest.approx(ours, abs=1e-6)  # measured 3e-8
    with pytest.raises(UncheckedError, match="other weights than the lpips-alex of this machine"):
        Libraries({}).measure(_row("lpips", signature.replace(sha[:8], "00000000")), pred, gt)


def test_open_clip_embeds_as_the_metric_does(
    layout: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A random network of the same structure, pinned in place of OpenAI's."""
    small = {
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 224, "layers": 2, "width": 64, "head_width": 64, "patch_size": 32},
        "text_cfg": {"context_length": 4, "vocab_size": 9, "width": 16, "heads": 2, "layers": 1},
    }
    (tmp_path / "audit-tiny.json").write_text(json.dumps(small))
    open_clip.add_model_config(tmp_path / "audit-tiny.json")
    monkeypatch.setattr(libraries, "_CLIP_MODEL", "audit-tiny")
    torch.manual_seed(0)
    model = open_clip.create_model("audit-tiny", load_weights=False)
    file = tmp_path / "clip-vit-b32-openai.safetensors"
    save_file({name: t + 0.1 * torch.randn(t.shape) for name, t in model.state_dict().items()}, file)
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path))
    entry = ledger.WEIGHTS["clip-vit-b32-openai"]
    pinned = replace(entry, files=(replace(entry.files[0], sha256=sha256_file(file)),))
    monkeypatch.setattr(ledger, "WEIGHTS", {entry.name: pinned})
    pred, gt = (layout(tmp_path / name, shift=5 * n) / "cat/eval_0/0.png" for n, name in enumerate("pg"))
    encoder = clip_network.load()
    ours = clip_metric.cosine(*(encoder.embed([libraries._read(path, 512)]) for path in (pred, gt)))
    signature = f"clip|v:1|model:ViT-B-32|pair:gt|p:a|res:512.pil-bicubic|w:{sha256_file(file)[:8]}"
    (value,) = Libraries({}).measure(_row("clip", signature), pred, gt).values()
    assert value < 0.9999
    assert value == pytest.approx(float(ours[0]), abs=1e-6)
