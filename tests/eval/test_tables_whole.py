"""Tables that are not whole or not of one kind say so: seeds, devices, code, force."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from manifests import make_manifest

from mvtokenflow.base.errors import ProtocolError
from mvtokenflow.datasets.layout import AZIMUTHS_DEG
from mvtokenflow.eval.protocols import PROTOCOLS
from mvtokenflow.eval.records.rows import Row, Run, Stage
from mvtokenflow.eval.tables.build import build_table
from mvtokenflow.eval.tables.specs import table_named
from mvtokenflow.eval.tables.table import Cell, Table

SCENES = ("s0", "s1", "s2")


def make_run(
    method: str,
    scene: str,
    value: float,
    *,
    seed: int = 0,
    mark: str = "",
    pedigree: Mapping[str, Any] | None = None,
) -> Run:
    rows = [
        Row(
            key=f"{method}/{scene}/{seed}/{view}",
            object=scene,
            view=view,
            frame=0,
            metric="psnr",
            value=value,
            signature=f"psnr|v:1{mark}",
        )
        for view in AZIMUTHS_DEG
    ]
    manifest = make_manifest(
        method=method,
        scene=scene,
        seed=seed,
        config_hash="c" * 64,
        reference_root="/data",
        prediction_digest="d" * 64,
        pedigree=pedigree or {"device": "cpu"},
        stages=(Stage(name="render", wall_s=60.0 * value, peak_mib=100.0),),
    )
    return Run(folder=Path("runs") / method / scene / f"seed{seed}", manifest=manifest, rows=rows)


def build(runs: Sequence[Run], name: str = "table2", **options: Any) -> Table:
    methods = list(dict.fromkeys(run.manifest.method for run in runs))
    protocol = PROTOCOLS["toy4d-v1"]
    return build_table(table_named(name), runs, protocol, methods, SCENES, quoted=False, **options)


def cell(table: Table, method: str, key: str = "psnr") -> Cell:
    index = next(i for i, column in enumerate(table.columns) if column.key == key)
    return next(row for row in table.rows if row.label == method).cells[index]


def test_a_row_that_lacks_a_seed_is_marked_and_not_ranked() -> None:
    runs = [make_run(m, s, v, seed=k) for m, v in (("a", 1), ("b", 2)) for s in SCENES for k in range(3)]
    runs += [make_run("part", s, 9, seed=k) for s in SCENES for k in range(3) if (s, k) != ("s1", 2)]
    table = build(runs, seeds=(0, 1, 2))
    assert [(cell(table, m).have, cell(table, m).want) for m in ("a", "part")] == [(9, 9), (8, 9)]
    assert [cell(table, m).rank for m in ("a", "b", "part")] == [2, 1, None]


def test_seeds_that_nobody_has_are_missing_all_the_same() -> None:
    table = build([make_run("a", s, 1) for s in SCENES], seeds=(0, 1))
    assert (cell(table, "a").have, cell(table, "a").want) == (3, 6)


def test_costs_of_different_devices_do_not_share_a_column() -> None:
    runs = [
        make_run(m, s, 1.0, pedigree={"device": device})
        for m, device in (("a", "cpu"), ("b", "H100"))
        for s in SCENES
    ]
    with pytest.raises(ProtocolError, match=r"device:H100.*device:cpu.*render all rows on one device"):
        build(runs, "table4")
    mixed = build(runs, "table4", allow_mixed=True)
    assert cell(mixed, "b", "minutes").value == pytest.approx(1)
    assert build(runs[:3], "table4")


def test_rows_of_different_code_are_told_below_the_table() -> None:
    code = {"version": "0.1", "commit": "a" * 40, "dirty": False}
    other = {**code, "commit": "b" * 40, "dirty": True}
    old = [make_run("a", s, 1, pedigree={"code": code}) for s in SCENES]
    new = [make_run("b", s, 2, pedigree={"code": other}) for s in SCENES]
    notes = build(old + new).footnotes
    told = "Rendered by different code: a by 0.1 at aaaaaaaaaa; b by 0.1 at bbbbbbbbbb with changes."
    assert told in notes
    same = [replace(r, manifest=replace(r.manifest, pedigree={"code": code})) for r in new]
    assert not any("different code" in note for note in build(old + same).footnotes)


def test_what_a_dataset_leaves_open_is_told_below_the_table_and_not_in_signatures() -> None:
    stated = [make_run("a", s, 1) for s in SCENES]
    assumed = [replace(r, manifest=replace(r.manifest, assumed=["cameras at distance 2"])) for r in stated]
    table, plain = build(assumed), build(stated)
    assert table.footnotes.count("Assumed of tiny: cameras at distance 2.") == 1
    assert [column.signatures for column in table.columns] == [column.signatures for column in plain.columns]
    assert (cell(table, "a").provenance or {})["assumed"] == ["cameras at distance 2"]
    assert not any(note.startswith("Assumed of") for note in plain.footnotes)
    assert "assumed" not in (cell(plain, "a").provenance or {})


def test_what_was_forced_shares_a_column_unranked_and_noted() -> None:
    runs = [make_run(m, s, v) for m, v in (("a", 1), ("b", 2)) for s in SCENES]
    runs += [make_run("forced", s, 9, mark="|forced" if s == "s1" else "") for s in SCENES]
    table = build(runs)
    assert [cell(table, m).rank for m in ("a", "b", "forced")] == [2, 1, None]
    assert any(note.endswith("not ranked: forced.") for note in table.footnotes)
    assert "|forced" in str((cell(table, "forced").provenance or {})["signature"])
