"""Valid records of runs, renderings and baselines, and who reads them."""

import json
import shutil
from pathlib import Path

import numpy as np
import valid

PROTOCOL = "c4d-fixed-v1"

# ---- records ----


def make_record(name: str, folder: Path, shared: Path) -> None:
    shutil.copyfile(valid.one_run(shared) / name, folder / name)


def make_features(folder: Path, shared: Path) -> None:
    from mvtokenflow.eval.records.rows import FeatureRow, feature_log

    names = {"object": "cat", "view": "eval_0", "metric": "fvd", "signature": "fvd|v:1"}
    rows = [
        FeatureRow(key=f"{n:064}", clip=n, pred=[0.5, -1.0], reference=[0.25, 2.0], **names) for n in range(3)
    ]
    feature_log(folder).append(rows)


def read_records(folder: Path) -> None:
    """Read by tables, and added to by the next measurement."""
    from mvtokenflow.eval.records.rows import feature_log, row_log

    row_log(folder).append(row_log(folder).read()[:1])
    feature_log(folder).append(feature_log(folder).read()[:1])


def read_manifest(folder: Path) -> None:
    from mvtokenflow.eval.records.rows import load_run

    load_run(folder)


def read_summary(folder: Path) -> None:
    from mvtokenflow.eval.records.summary import Summary

    Summary.load(folder, PROTOCOL)


def make_scored(folder: Path, shared: Path) -> None:
    """Runs, their scene, and a site of them."""
    shutil.copytree(valid.scored_runs(shared), folder, dirs_exist_ok=True)
    read_tables(folder)


def read_tables(folder: Path) -> None:
    """`table2` of finished runs, and the pages of them."""
    from mvtokenflow.cli.eval.records import report

    report(
        folder / "site",
        runs=folder / "runs",
        dataset=str(folder / "scenes"),
        methods="ground-truth,white",
        protocol=PROTOCOL,
        tables="table2",
    )


def make_prediction(folder: Path, shared: Path) -> None:
    shutil.copytree(valid.scored_runs(shared) / "scenes", folder / "gt", ignore=shutil.ignore_patterns("input"))
    shutil.copytree(folder / "gt", folder / "pred")


def read_scored_folder(folder: Path) -> None:
    """`mvtf-eval score` with the metrics that need no weights."""
    from mvtokenflow.eval.protocols import protocol_named
    from mvtokenflow.eval.score.pairs import plan_folder
    from mvtokenflow.eval.score.units import Settings, UnitScorer, units_of

    protocol = protocol_named(PROTOCOL)
    plan = plan_folder(folder / "pred", folder / "gt", protocol)
    specs = tuple(spec for spec in protocol.metrics if spec.key == "psnr")
    scorer = UnitScorer(Settings(protocol=protocol, specs=specs))
    for name in plan.pairs:
        for unit in units_of(name, {"it": plan}, scorer.settings):
            scorer.score(unit, done={}, emit=lambda label, rows: None, step=lambda frames: None)


def make_baseline(folder: Path, shared: Path) -> None:
    known = Path(__file__).resolve().parents[2] / "eval" / "regression" / "toy4d-known.json"
    document = json.loads(known.read_bytes())
    document["cells"] = document["cells"][:4]
    (folder / "baseline.json").write_text(json.dumps(document))


def read_baseline(folder: Path) -> None:
    """All of `regress` but the measurement."""
    from mvtokenflow.eval.gate import compare as gate
    from mvtokenflow.eval.gate import documents as gate_documents
    from mvtokenflow.eval.gate.recipe import Recipe, place_of

    path = folder / "baseline.json"
    baseline = gate_documents.load_document(path, "baseline")
    place_of(Recipe.of(baseline, path), folder, "cpu")
    kept = ("method", "metric", "object", "value", "signature", "better")
    cells = [{key: cell[key] for key in kept if key in cell} for cell in baseline["cells"]]
    report = gate.compare(baseline, gate_documents.measured_document(cells))
    gate.to_junit_xml(report), gate.to_markdown(report), report.to_json()


def make_picture(folder: Path, shared: Path) -> None:
    valid.balls(folder, count=1)


def read_picture(folder: Path) -> None:
    from mvtokenflow.reports.pictures import PictureStore

    PictureStore(folder / "pictures", 24).add(folder / "0.png")


def make_array(folder: Path, shared: Path) -> None:
    np.savez_compressed(folder / "eval_0.flow.npz", flow=np.zeros((3, 8, 8, 2), np.float32))


def read_array(folder: Path) -> None:
    """Flow of a row, by the metrics and by the pages."""
    from mvtokenflow.eval.score.pictures import first_entries
    from mvtokenflow.reports.figure import read_array

    read_array(folder / "eval_0.flow.npz", "flow")
    first_entries(folder / "eval_0.flow.npz", 3, "flow")
