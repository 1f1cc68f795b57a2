"""Tables as pure functions of records: ranks, groups, coverage, refusals, intervals."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from manifests import make_manifest

from mvtokenflow.base.errors import ConfigError, ProtocolError
from mvtokenflow.datasets.layout import AZIMUTHS_DEG
from mvtokenflow.eval.metrics.fvd import frechet_distance
from mvtokenflow.eval.protocols import ALL_VIEWS, PROTOCOLS
from mvtokenflow.eval.records.rows import FeatureRow, Row, Run, Stage
from mvtokenflow.eval.tables.build import build_table
from mvtokenflow.eval.tables.specs import TABLES, table_named
from mvtokenflow.eval.tables.table import Cell, Table

PROTOCOL = PROTOCOLS["toy4d-v1"]
SCENES = [f"s{n}" for n in range(7)]
VIEWS: Mapping[str, Sequence[str]] = {"clip_views": (ALL_VIEWS,)}


def make_run(
    method: str,
    scene: str,
    values: Mapping[str, float],
    *,
    seed: int = 0,
    source: str = "native",
    views: Sequence[str] = ("input", *AZIMUTHS_DEG),
    frames: int = 2,
    signature: str = "{metric}|v:1",
    features: Sequence[FeatureRow] = (),
    missing: Mapping[str, str] | None = None,
    stages: Sequence[Stage] = (Stage(name="render", wall_s=60.0, peak_mib=100.0),),
) -> Run:
    rows = [
        Row(
            key=f"{method}/{scene}/{seed}/{metric}/{view}/{frame}",
            object=scene,
            view=view,
            frame=frame,
            metric=metric,
            value=value,
            signature=signature.format(metric=metric),
        )
        for metric, value in values.items()
        for view in VIEWS.get(metric, views)
        for frame in range(frames)
    ]
    manifest = make_manifest(
        method=method,
        source=source,
        uses_truth=source == "oracle",
        scene=scene,
        seed=seed,
        config_hash="c" * 64,
        reference_root="/data",
        frames=frames,
        prediction_digest="d" * 64,
        pedigree={"device": "cpu"},
        stages=tuple(stages),
    )
    folder = Path("runs/tiny") / method / scene / f"seed{seed}-cccccccccc"
    return Run(folder=folder, manifest=manifest, rows=rows, features=features, missing=missing or {})


def runs_of(method: str, lpips: Sequence[float], **options: Any) -> list[Run]:
    return [make_run(method, s, {"lpips": v}, **options) for s, v in zip(SCENES, lpips, strict=False)]


def build(name: str, runs: Sequence[Run], methods: Sequence[str], **options: Any) -> Table:
    scenes = options.pop("scenes", SCENES)
    return build_table(table_named(name), runs, PROTOCOL, methods, scenes, quoted=False, **options)


def cell(table: Table, method: str, key: str = "lpips") -> Cell:
    index = next(i for i, column in enumerate(table.columns) if column.key == key)
    return next(row for row in table.rows if row.label == method and row.group != "quoted").cells[index]


def test_values_are_means_over_scenes_and_ranks_use_unrounded_values() -> None:
    spread = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    runs = (
        runs_of("a", [v + 1e-9 for v in spread]) + runs_of("b", spread) + runs_of("c", [v + 1 for v in spread])
    )
    table = build("table1", runs, ["a", "b", "c"])
    assert [cell(table, m).rank for m in "abc"] == [2, 1, 3]
    digits = next(c.digits for c in table.columns if c.key == "lpips")
    assert f"{cell(table, 'a').value:.{digits}f}" == f"{cell(table, 'b').value:.{digits}f}", "printed alike"
    assert cell(table, "b").value == pytest.approx(0.4)
    assert (cell(table, "b").have, cell(table, "b").want) == (7, 7)


def test_where_more_is_better_the_largest_is_first_and_equal_values_share_a_rank() -> None:
    runs = [
        make_run(method, scene, {"psnr": value})
        for method, value in (("a", 20.0), ("b", 30.0), ("c", 30.0), ("d", math.inf))
        for scene in SCENES
    ]
    table = build("table1", runs, ["a", "b", "c", "d"])
    assert [cell(table, m, "psnr").rank for m in "abcd"] == [4, 2, 2, 1]
    assert cell(table, "d", "psnr").value == math.inf
    assert '"inf"' in json.dumps(table.to_json(), allow_nan=False)


def test_a_difference_within_the_noise_is_a_tie_and_a_clear_one_is_not() -> None:
    noise = np.random.default_rng(1).normal(0, 0.05, 7)
    base = np.linspace(0.2, 0.8, 7)
    runs = runs_of("a", list(base)) + runs_of("near", list(base + noise - noise.mean() + 1e-4))
    runs += runs_of("far", list(base + 0.3 + noise))
    table = build("table1", runs, ["a", "near", "far"])
    assert cell(table, "near").tied
    assert not cell(table, "far").tied
    assert not cell(table, "a").tied, "the best row ties with nobody but itself"


def test_oracles_are_shown_last_and_never_ranked() -> None:
    runs = runs_of("truth", [0.0] * 7, source="oracle") + runs_of("mine", [0.2] * 7) + runs_of("b", [0.3] * 7)
    table = build("table1", runs, ["truth", "mine", "b"])
    assert [row.label for row in table.rows] == ["mine", "b", "truth"]
    assert [row.group for row in table.rows] == ["measured", "measured", "oracle"]
    assert cell(table, "truth").rank is None
    assert cell(table, "truth").value == 0
    assert cell(table, "mine").rank == 1


def test_a_lone_row_and_columns_without_a_better_side_are_not_ranked() -> None:
    alone = build("table1", runs_of("mine", [0.2] * 7), ["mine"])
    assert cell(alone, "mine").rank is None
    runs = [make_run(m, s, {"motion": 1.0 + len(m)}) for m in ("a", "bb") for s in SCENES]
    table = build("table1", runs, ["a", "bb"])
    assert {cell(table, m, "motion").rank for m in ("a", "bb")} == {None}


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "table4"])
def test_published_numbers_are_marked_cited_and_never_ranked(name: str) -> None:
    runs = runs_of("mine", [9.0] * 7) + runs_of("worse", [10.0] * 7)
    table = build_table(TABLES[name], runs, PROTOCOL, ["mine", "worse"], SCENES, quoted=True)
    quoted = [row for row in table.rows if row.group == "quoted"]
    assert quoted
    assert all(row.source == "quoted" for row in quoted)
    assert [row.group for row in table.rows] == ["measured"] * 2 + ["quoted"] * len(quoted)
    for row in quoted:
        for number in row.cells:
            assert number.rank is None
            assert (number.value is None) == (number.reason is not None)
            assert number.value is None or set(number.provenance or {}) >= {"arXiv", "where", "protocol"}
    if name != "table4":
        assert cell(table, "mine").rank == 1, "a better published number takes no rank away"


def test_a_published_metric_that_fits_two_columns_is_printed_once() -> None:
    table = build_table(TABLES["table3"], [], PROTOCOL, [], SCENES, quoted=True)
    places = [i for i, column in enumerate(table.columns) if column.key == "lpips"]
    assert len(places) == 2
    for row in table.rows:
        assert row.cells[places[0]].value is not None
        assert row.cells[places[1]].value is None


def test_every_blank_has_a_reason() -> None:
    runs = [make_run("mine", s, {"psnr": 30.0}, missing={"ssim": "too short"}) for s in SCENES]
    table = build(
        "table1", runs, ["mine", "absent"], missing={"lpips": "no weights"}, unrun={"absent": "crashed"}
    )
    assert cell(table, "mine", "lpips").reason == "no weights"
    assert cell(table, "mine", "ssim").reason == "too short"
    assert cell(table, "mine", "warp").reason
    assert {c.reason for c in next(r for r in table.rows if r.label == "absent").cells} == {"crashed"}
    for row in table.rows:
        for number in row.cells:
            assert (number.value is None) == (number.reason is not None)


def test_partial_coverage_is_counted_and_not_ranked_against_whole_rows() -> None:
    runs = runs_of("whole", [0.5] * 7) + runs_of("other", [0.6] * 7) + runs_of("easy", [0.1] * 6)
    table = build("table1", runs, ["whole", "other", "easy"])
    assert (cell(table, "easy").have, cell(table, "easy").want) == (6, 7)
    assert cell(table, "easy").rank is None, "the mean of six easy scenes beats nobody's mean of seven"
    assert [cell(table, m).rank for m in ("whole", "other")] == [1, 2]


def test_rows_over_different_scenes_are_never_ranked_against_each_other() -> None:
    values = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    first = [run for run in runs_of("first", values) if run.manifest.scene != "s0"]
    last = [run for run in runs_of("last", values) if run.manifest.scene != "s6"]
    table = build("table1", first + last, ["first", "last"])
    assert (cell(table, "first").have, cell(table, "last").have) == (6, 6)
    assert {cell(table, "first").rank, cell(table, "last").rank} == {None}
    whole = runs_of("whole", values)
    table = build("table1", first + last + whole + runs_of("more", values), ["first", "last", "whole", "more"])
    assert {cell(table, "first").rank, cell(table, "last").rank} == {None}
    assert cell(table, "whole").rank == cell(table, "more").rank == 1


def test_a_scene_nobody_could_do_does_not_stop_the_ranking() -> None:
    table = build("table1", runs_of("a", [0.1] * 6) + runs_of("b", [0.2] * 6), ["a", "b"])
    assert [cell(table, m).rank for m in "ab"] == [1, 2]


def test_mixed_signatures_are_refused_unless_asked_for() -> None:
    runs = runs_of("a", [0.1] * 7, signature="{metric}|v:1|w:11111111")
    runs += runs_of("b", [0.2] * 7, signature="{metric}|v:1|w:22222222")
    with pytest.raises(ProtocolError, match=r"column LPIPS: .*w:11111111.*w:22222222.*--allow-mixed"):
        build("table1", runs, ["a", "b"])
    table = build("table1", runs, ["a", "b"], allow_mixed=True)
    (column,) = (c for c in table.columns if c.key == "lpips")
    assert len(column.signatures) == 2


def test_one_method_measured_in_two_ways_is_refused_too() -> None:
    runs = runs_of("a", [0.1] * 6, signature="{metric}|v:1|w:1")
    runs.append(make_run("a", "s6", {"lpips": 0.1}, signature="{metric}|v:1|w:2"))
    with pytest.raises(ProtocolError, match="LPIPS"):
        build("table1", runs, ["a"])


def test_a_shorter_prediction_is_another_measurement() -> None:
    runs = runs_of("whole", [0.2] * 7, frames=4) + runs_of("short", [0.1] * 7, frames=3)
    with pytest.raises(ProtocolError, match=r"LPIPS.*frames:3.*frames:4"):
        build("table1", runs, ["whole", "short"])
    assert cell(build("table1", runs, ["whole", "short"], allow_mixed=True), "short").value == pytest.approx(
        0.1
    )


def test_scenes_of_different_length_are_no_mixture() -> None:
    long = [make_run(m, "s0", {"lpips": 0.1}, frames=8) for m in ("a", "b")]
    short = [make_run(m, "s1", {"lpips": 0.3}, frames=2) for m in ("a", "b")]
    table = build("table1", long + short[:1], ["a", "b"], scenes=["s0", "s1"])
    assert cell(table, "a").value == pytest.approx(0.2)
    assert (cell(table, "b").have, cell(table, "b").want) == (1, 2)


def test_seeds_are_averaged_within_a_scene_and_named() -> None:
    runs = [
        make_run("a", scene, {"lpips": value}, seed=seed)
        for seed, value in ((0, 0.1), (1, 0.3))
        for scene in SCENES[:2]
    ]
    runs.append(make_run("a", "s2", {"lpips": 0.6}, seed=0))
    table = build("table1", runs, ["a"], scenes=SCENES[:3])
    found = cell(table, "a")
    assert found.value == pytest.approx((0.2 + 0.2 + 0.6) / 3), "a scene counts once, however many seeds it has"
    assert (found.have, found.want) == (5, 6), "runs: the second seed of one scene is missing"
    assert "seeds:2" in str((found.provenance or {})["signature"])
    assert (found.provenance or {})["seeds"] == [0, 1]


def clips(method: str, scene: str, count: int, shift: float) -> list[FeatureRow]:
    rng = np.random.default_rng([*scene.encode(), count])
    return [
        FeatureRow(
            key=f"{method}{scene}{view}{index}",
            object=scene,
            view=view,
            clip=index,
            metric="fvd",
            signature="fvd|v:1",
            pred=[float(v) for v in rng.normal(shift, 1, 3)],
            reference=[float(v) for v in rng.normal(0, 1, 3)],
        )
        for view in AZIMUTHS_DEG
        for index in range(count)
    ]


def test_the_set_level_fvd_is_one_number_over_all_clips_in_any_order() -> None:
    runs = [make_run("a", s, {}, features=clips("a", s, 2, 0.5)) for s in SCENES]
    found = cell(build("table2", runs, ["a"]), "a", "fvd")
    every = sorted((f for r in runs for f in r.features), key=lambda f: (f.object, f.view, f.clip))
    expected = frechet_distance(np.array([f.pred for f in every]), np.array([f.reference for f in every]))
    assert found.value == expected
    assert found.low is None, "a set has no interval over objects"
    assert found.provenance is not None
    assert "clips:56" in str(found.provenance["signature"])
    shuffled = [replace(r, features=list(reversed(r.features))) for r in reversed(runs)]
    assert cell(build("table2", shuffled, ["a"]), "a", "fvd").value == expected


def test_the_set_level_fvd_of_fewer_scenes_is_marked_and_not_ranked() -> None:
    runs = [make_run("whole", s, {}, features=clips("whole", s, 2, 0.5)) for s in SCENES]
    runs += [make_run("part", s, {}, features=clips("part", s, 2, 0.0)) for s in SCENES[:5]]
    runs += [make_run("other", s, {}, features=clips("other", s, 2, 0.9)) for s in SCENES]
    table = build("table2", runs, ["whole", "part", "other"])
    assert (cell(table, "part", "fvd").have, cell(table, "part", "fvd").want) == (5, 7)
    assert cell(table, "part", "fvd").rank is None
    assert sorted(str(cell(table, m, "fvd").rank) for m in ("whole", "other")) == ["1", "2"]


def test_costs_are_summed_over_stages_and_never_hidden_by_a_protocol() -> None:
    stages = (
        Stage(name="generate", wall_s=90.0, peak_mib=300.0),
        Stage(name="fit", wall_s=30.0, peak_mib=700.0),
    )
    runs = [make_run("slow", s, {}, stages=stages) for s in SCENES] + [make_run("fast", s, {}) for s in SCENES]
    table = build("table4", runs, ["slow", "fast"])
    assert cell(table, "slow", "minutes").value == 2.0
    assert cell(table, "slow", "peak_mib").value == 700.0
    assert cell(table, "fast", "minutes").rank == 1


def test_the_time_to_import_pictures_is_not_the_cost_of_a_method() -> None:
    runs = [make_run("mine", s, {}) for s in SCENES]
    runs += [make_run("theirs", s, {}, source="released-renderings") for s in SCENES]
    runs += [make_run("nothing-measured", s, {}, stages=()) for s in SCENES]
    table = build("table4", runs, ["mine", "theirs", "nothing-measured"])
    for method in ("theirs", "nothing-measured"):
        for key in ("minutes", "peak_mib"):
            found = cell(table, method, key)
            assert found.value is None
            assert found.reason
    assert cell(table, "mine", "minutes").value == 1.0


def test_intervals_hold_the_value_and_need_two_scenes() -> None:
    table = build("table1", runs_of("a", [0.1, 0.5, 0.2, 0.9, 0.3, 0.4, 0.35]), ["a"])
    found = cell(table, "a")
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert 0.1 <= found.low < found.value < found.high <= 0.9
    lonely = cell(build("table1", runs_of("a", [0.1]), ["a"], scenes=["s0"]), "a")
    assert (lonely.low, lonely.high) == (None, None)


@pytest.mark.parametrize("order", [list, lambda runs: list(reversed(runs))], ids=["as is", "reversed"])
def test_the_same_records_give_the_same_bytes(order: Callable[[list[Run]], list[Run]]) -> None:
    rng = np.random.default_rng(7)
    runs = [
        make_run(
            m, s, {"lpips": float(rng.random()), "psnr": float(rng.random())}, features=clips(m, s, 1, 0.1)
        )
        for m in ("a", "b", "c")
        for s in SCENES
    ]
    first = [json.dumps(build(name, runs, ["a", "b", "c"]).to_json()) for name in ("table1", "table2")]
    again = [json.dumps(build(name, order(runs), ["a", "b", "c"]).to_json()) for name in ("table1", "table2")]
    assert [_without_run_order(text) for text in again] == [_without_run_order(text) for text in first]


def _without_run_order(text: str) -> str:
    return json.dumps(json.loads(text), sort_keys=True)


def test_columns_the_protocol_does_not_measure_are_left_out() -> None:
    table = build_table(TABLES["table2"], [], PROTOCOLS["c4d-v1"], ["a"], SCENES, quoted=False)
    keys = {column.key for column in table.columns}
    assert "fvd_c4d" in keys
    assert not keys & {"fvd", "warp"}


def test_other_scenes_and_methods_do_not_leak_in() -> None:
    runs = runs_of("a", [0.1] * 7) + runs_of("b", [0.9] * 7)
    table = build("table1", runs, ["a"], scenes=["s1", "s3"])
    assert [row.label for row in table.rows] == ["a"]
    assert (cell(table, "a").have, cell(table, "a").want) == (2, 2)


def test_table_names_are_suggested() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'table1'"):
        table_named("tabel1")
