"""The paper's claims on synthetic numbers: rulings, directions, pairing, missing numbers, sentences."""

import math

import numpy as np
import pytest

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.baselines.catalogue import NATIVES
from mvtokenflow.baselines.names import RIVALS
from mvtokenflow.baselines.published import PUBLISHED
from mvtokenflow.eval.claims.judge import SCENES_REQUIRED, Finding, Pair, Verdict, judge
from mvtokenflow.eval.claims.rivals import RIVAL_CLAIMS, claim_named
from mvtokenflow.eval.claims.sentences import p_text, sentence
from mvtokenflow.eval.claims.specs import CLAIMS, MEASURES, PRINTED, RIVAL_MEASURES
from mvtokenflow.eval.protocols import PROTOCOLS
from mvtokenflow.eval.tables.specs import TABLES
from mvtokenflow.eval.tables.stats import minimum_p

PROTOCOL = PROTOCOLS["toy4d-v2"]


def paired(gain: float, *, scenes: int = 24, noise: float = 0.1, base: float = 5.0, seed: int = 0) -> Pair:
    """Two rows of which the first is `gain` lower on average."""
    rng = np.random.default_rng(seed)
    second = {f"s{n:02}": base + float(rng.normal()) for n in range(scenes)}
    jitter = rng.normal(0, noise, scenes)
    jitter -= jitter.mean()
    first = {name: value - gain + float(j) for (name, value), j in zip(second.items(), jitter, strict=True)}
    return Pair(first=first, second=second, signature="x")


def swapped(pair: Pair) -> Pair:
    return Pair(first=pair.second, second=pair.first, signature=pair.signature)


def found(verdict: Verdict, key: str) -> Finding:
    return next(finding for finding in verdict.findings if finding.measure.key == key)


PROPAGATION = CLAIMS["propagation"]  # decided by the warp error alone, guarded by LPIPS
NORMALS = CLAIMS["normal-consistency"]  # decided by CLIP, and by the small CLIP beside it
BOTH = CLAIMS["normal-rendering"]  # decided by LPIPS and PSNR


# ---- what is claimed ----


def test_every_claim_names_rows_metrics_and_a_place_in_the_paper() -> None:
    for key, claim in CLAIMS.items():
        assert claim.key == key
        assert {claim.row, claim.against} <= set(NATIVES)
        assert claim.primary
        assert set(claim.primary) | set(claim.guards) <= set(MEASURES)
        assert not set(claim.primary) & set(claim.guards)
        if {"warp", "normal_deg"} & set(claim.primary):
            assert "lpips_novel" in claim.guards, "blur and thin rims look better to them"
        assert "section" in claim.where
        if claim.printed is not None:
            assert any(n.method == claim.printed and n.table == "table3" for n in PUBLISHED)
    assert {claim.against for claim in CLAIMS.values()} == set(NATIVES) - {"mvtokenflow"}
    assert claim_named("flow-loss").against == "no-flow-loss"
    front = claim_named("front-propagation")
    assert (front.row, front.against, front.primary) == ("no-regeneration", "no-propagation", ("warp",))
    for key in ("enlarged-attention", "flow"):  # the paper's view, and those that the small prior does not copy
        assert CLAIMS[key].primary == ("fvd_c4d_input", "fvd_c4d_novel", "warp")
    assert {key for key, measure in MEASURES.items() if measure.proxy} == {"clip_toy_views"}
    with pytest.raises(ConfigError, match="flow-loss"):
        claim_named("flow-los")


def test_the_metrics_of_the_comparison_are_all_there_and_measured_by_a_table() -> None:
    metrics = {measure.column.metric for measure in MEASURES.values()}
    asked = {
        "lpips",
        "psnr",
        "fvd",
        "fvd_c4d",
        "warp",
        "clip_views",
        "clip_toy_views",
        "flow_epe",
        "normal_deg",
    }
    assert metrics == asked
    for measure in MEASURES.values():
        columns = [column for table in TABLES.values() for column in table.columns]
        directions = {column.better for column in columns if column.metric == measure.column.metric}
        assert directions == {measure.column.better}
        assert measure.table in TABLES
        spec = next(spec for spec in PROTOCOL.metrics if spec.key == measure.column.metric)
        assert measure.column.place in PROTOCOL.places_of(spec)


# ---- beside other methods ----


def test_claims_on_rivals_are_decided_by_what_the_paper_prints_better() -> None:
    directions = {measure.column.metric: measure.column.better for measure in RIVAL_MEASURES.values()}
    for key, claim in RIVAL_CLAIMS.items():
        assert claim.key == key
        assert claim.rival
        assert claim.row == "mvtokenflow"
        assert claim.against in RIVALS
        assert set(claim.primary) | set(claim.guards) <= set(PRINTED[claim.printed_in])
        for measure, metric in PRINTED[claim.printed_in].items():
            numbers = {
                n.method: n.printed for n in PUBLISHED if (n.table, n.metric) == (claim.printed_in, metric)
            }
            if claim.printed not in numbers:
                assert measure not in {*claim.primary, *claim.guards}
                continue
            assert f"{numbers['MVTokenFlow']} against {numbers[claim.printed]}" in claim.where
            ours, theirs = float(numbers["MVTokenFlow"]), float(numbers[claim.printed])
            better = ours > theirs if directions[metric] == "higher" else ours < theirs
            assert (measure in claim.primary) == better
            assert (measure in claim.guards) == (ours == theirs)
    stag4d = RIVAL_CLAIMS["stag4d-input-view"]
    assert (stag4d.primary, stag4d.guards) == (("lpips_input", "psnr_input", "ssim_input"), ("clip_views",))
    assert "lpips_input" not in RIVAL_CLAIMS["consistent4d-input-view"].primary, "the paper prints none"
    tables = {(claim.printed_in, claim.printed) for claim in RIVAL_CLAIMS.values()}
    quoted = {(n.table, n.method) for n in PUBLISHED if n.table in ("table1", "table2")}
    assert tables == {(table, method) for table, method in quoted if method != "MVTokenFlow"}


def test_measures_of_rivals_are_those_of_tables_1_and_2() -> None:
    shown = {(c.metric, c.place) for name in ("table1", "table2") for c in TABLES[name].columns}
    for measure in RIVAL_MEASURES.values():
        assert (measure.column.metric, measure.column.place) in shown
        spec = next(spec for spec in PROTOCOL.metrics if spec.key == measure.column.metric)
        assert measure.column.place in PROTOCOL.places_of(spec)


def test_a_rival_is_judged_in_its_own_words() -> None:
    claim = RIVAL_CLAIMS["sc4d-novel-views"]
    verdict = judge(claim, {"lpips_novel": paired(0.2), "fvd_c4d_novel": paired(-0.3, seed=1)})
    assert verdict.ruling == "undecided"
    assert {finding.measure.key for finding in verdict.findings} == set(RIVAL_MEASURES)
    text = sentence(verdict)
    assert text.startswith(
        "Beside SC4D: novel views: undecided. Compared with SC4D, LPIPS of novel views falls by"
    )
    assert "which is worse" in text
    with pytest.raises(DataError, match="no such measure: normal_deg"):
        judge(claim, {"normal_deg": paired(0.1)})


# ---- rulings ----


def test_a_clear_gain_replicates_and_the_sentence_has_its_numbers() -> None:
    verdict = judge(PROPAGATION, {"warp": paired(0.5)})
    assert verdict.ruling == "replicates"
    finding = found(verdict, "warp")
    assert finding.difference is not None
    assert finding.gain is not None
    assert finding.difference.mean == pytest.approx(-0.5)
    assert finding.gain.mean == pytest.approx(0.5)
    assert finding.gain.low == -finding.difference.high  # type: ignore[operator]  # 24 scenes have bounds
    assert (finding.comparison.wins, finding.scenes) == (24, 24)  # type: ignore[union-attr]  # it was compared
    assert finding.relative == pytest.approx(-0.5 / finding.first)  # type: ignore[operator]  # it was measured
    text = sentence(verdict)
    assert text.startswith(
        "Token propagation: temporal consistency: replicates. In renderings of the field, with token "
        "propagation in both passes, warp error"
    )
    assert "falls by 0.500 [0.4" in text
    assert "(24 scenes, p = 0.00001)" in text
    unfloored, absent, unguarded = verdict.notes
    assert "the reference's own was not measured" in unfloored
    assert absent.startswith("Not compared: LPIPS of novel views, LPIPS of the input view, ")
    assert unguarded == (
        "The verdict on “Token propagation: temporal consistency” is without its guard: nothing could show "
        "that LPIPS of novel views got worse."
    )


def test_the_other_way_round_it_does_not_replicate() -> None:
    verdict = judge(PROPAGATION, {"warp": swapped(paired(0.5))})
    assert verdict.ruling == "contradicted"
    assert "does not replicate" in sentence(verdict)
    assert "rises by 0.500" in sentence(verdict)
    assert "which is worse" in sentence(verdict)


def test_where_more_is_better_a_rise_is_the_gain() -> None:
    pairs = {"lpips_novel": paired(0.5), "psnr_novel": swapped(paired(0.5, base=30))}
    verdict = judge(BOTH, pairs)
    assert verdict.ruling == "replicates"
    assert found(verdict, "psnr_novel").difference.mean == pytest.approx(0.5)  # type: ignore[union-attr]
    assert "PSNR of novel views rises by 0.50" in sentence(verdict)
    assert " dB [" in sentence(verdict)
    assert judge(BOTH, {key: swapped(pair) for key, pair in pairs.items()}).ruling == "contradicted"


def test_noise_is_undecided_and_says_what_it_excludes() -> None:
    verdict = judge(PROPAGATION, {"warp": paired(0.002, noise=0.1)})
    assert verdict.ruling == "undecided"
    gain = found(verdict, "warp").gain
    assert gain is not None
    assert gain.low is not None
    assert gain.high is not None
    assert gain.low < 0 < gain.high
    text = sentence(verdict)
    assert f"the interval excludes an improvement of more than {gain.high:.3f}" in text
    assert f"and a deterioration of more than {-gain.low:.3f}" in text


def test_all_primary_metrics_must_agree() -> None:
    gain, nothing, loss = paired(0.5), paired(0.0), swapped(paired(0.5))

    def ruling(lpips: Pair, fall_of_psnr: Pair) -> str:
        return judge(BOTH, {"lpips_novel": lpips, "psnr_novel": swapped(fall_of_psnr)}).ruling

    assert ruling(gain, gain) == "replicates"
    assert ruling(gain, nothing) == ruling(nothing, gain) == "undecided"
    assert ruling(gain, loss) == ruling(loss, gain) == "undecided"
    assert ruling(loss, nothing) == ruling(loss, loss) == "contradicted"
    assert ruling(nothing, nothing) == "undecided"


def test_a_gain_whose_guard_got_worse_is_undecided_and_says_so() -> None:
    gain, loss = paired(0.5), swapped(paired(0.5))
    verdict = judge(PROPAGATION, {"warp": gain, "lpips_novel": loss})
    assert verdict.ruling == "undecided"
    assert "warp error of novel views falls by 0.500" in sentence(verdict)
    guarded = sentence(verdict).split(". But ")[1]
    assert guarded.startswith("LPIPS of novel views rises by 0.5000 [0.4")
    assert guarded.endswith("(24 scenes, p = 0.00001), which is worse; it guards the claim.")
    assert [finding.role for finding in verdict.findings[:3]] == ["primary", "guard", "secondary"]
    thinner = judge(CLAIMS["normal-geometry"], {"normal_deg": gain, "lpips_novel": loss})
    assert thinner.ruling == "undecided"
    for guard in (gain, paired(0.0), swapped(paired(0.5, scenes=5))):  # 5 scenes cannot show that it got worse
        verdict = judge(PROPAGATION, {"warp": gain, "lpips_novel": guard})
        assert verdict.ruling == "replicates"
        assert "guards" not in sentence(verdict)
        assert any("is without its guard" in note for note in verdict.notes) == (len(guard.first) == 5)
    verdict = judge(PROPAGATION, {"warp": loss, "lpips_novel": loss})
    assert verdict.ruling == "contradicted"
    assert "guards" not in sentence(verdict)


def test_metrics_a_claim_is_not_about_are_shown_and_do_not_decide() -> None:
    verdict = judge(PROPAGATION, {"warp": paired(0.5), "psnr_novel": paired(0.5)})
    assert verdict.ruling == "replicates"
    assert found(verdict, "psnr_novel").outcome == "worse"
    assert verdict.findings[0].measure.key == "warp", "primary first"
    assert {f.measure.key for f in verdict.findings} == set(MEASURES)


def test_a_proxy_decides_nothing_alone() -> None:
    gain, nothing, loss = swapped(paired(0.5)), paired(0.0), paired(0.5)
    away = Pair(reason="no weights, `fetch them`")
    for proxy in (gain, nothing, loss):
        verdict = judge(NORMALS, {"clip_views": away, "clip_toy_views": proxy})
        assert verdict.ruling == "undecided"
        assert sentence(verdict).endswith(
            "A proxy decides nothing alone; what decides is missing "
            "(CLIP between views: no weights, `fetch them`)."
        )
    assert found(verdict, "clip_toy_views").outcome == "worse"

    def ruling(clip: Pair, small: Pair) -> str:
        return judge(NORMALS, {"clip_views": clip, "clip_toy_views": small}).ruling

    assert ruling(gain, gain) == "replicates"
    assert ruling(gain, nothing) == ruling(nothing, gain) == "undecided"
    assert ruling(nothing, loss) == "undecided", "worse by the proxy alone"
    assert ruling(loss, nothing) == "contradicted"
    assert judge(NORMALS, {"clip_views": gain}).ruling == "replicates"
    assert "proxy" not in sentence(judge(NORMALS, {"clip_views": gain}))


def test_what_the_paper_says_of_videos_is_measured_on_renderings() -> None:
    for key, claim in CLAIMS.items():
        text = sentence(judge(claim, {name: paired(0.5) for name in claim.primary}))
        assert ("In renderings of the field, with" in text) == claim.videos
        assert claim.videos == ("generated videos" in claim.says or key == "regeneration")


def test_ties_are_counted_and_equal_rows_have_p_one() -> None:
    same = {f"s{n}": float(n) for n in range(24)}
    verdict = judge(PROPAGATION, {"warp": Pair(first=same, second=same)})
    finding = found(verdict, "warp")
    assert finding.comparison is not None
    assert (finding.comparison.wins, finding.comparison.ties, finding.comparison.losses) == (0, 24, 0)
    assert finding.p == 1
    assert verdict.ruling == "undecided"
    assert "the same on every one of 24 scenes" in sentence(verdict)


def test_holm_is_over_the_tested_metrics_of_one_role() -> None:
    ten = {key: paired(0.3, scenes=10, seed=n) for n, key in enumerate(MEASURES) if key != "fvd"}
    alone = judge(PROPAGATION, {"warp": ten["warp"]})
    among = judge(PROPAGATION, ten)
    assert found(alone, "warp").p == found(among, "warp").p == minimum_p(10), "other tables change no verdict"
    assert found(among, "lpips_novel").p == minimum_p(10), "the guard is a family of its own"
    assert found(among, "psnr_novel").p == pytest.approx(minimum_p(10) * (len(ten) - 2))
    both = judge(BOTH, ten)
    assert found(both, "psnr_novel").p == 2 * minimum_p(10)
    assert found(judge(BOTH, {"psnr_novel": ten["psnr_novel"]}), "psnr_novel").p == minimum_p(10)


def test_where_nothing_can_be_decided_nothing_is_excluded() -> None:
    lpips, fall = paired(0.5, scenes=6, seed=1), paired(0.5, scenes=6, seed=2)
    assert judge(BOTH, {"lpips_novel": lpips}).ruling == "replicates", "one metric can be decided by 6 scenes"
    verdict = judge(BOTH, {"lpips_novel": lpips, "psnr_novel": swapped(fall)})
    assert verdict.ruling == "undecided"
    assert (
        "Nothing can be decided by 2 metrics: no p can fall below 0.062 after Holm (scenes that differ: 6)."
        in verdict.notes
    )
    assert "the interval excludes" not in sentence(verdict)
    assert sentence(verdict).count("too few scenes to exclude anything") == 2


def test_an_interval_without_zero_is_not_enough() -> None:
    fall = paired(0.045, noise=0.1, seed=3)
    verdict = judge(BOTH, {"lpips_novel": fall, "psnr_novel": swapped(fall)})
    finding = found(verdict, "lpips_novel")
    assert finding.comparison is not None
    assert finding.comparison.test.p < 0.05 < finding.p  # type: ignore[operator]  # it was tested
    assert verdict.ruling == "undecided"
    assert "the interval excludes an improvement of more than" in sentence(verdict)
    assert "any deterioration" in sentence(verdict)
    assert "but p does not reach 0.05" in sentence(verdict)


# ---- scenes ----


@pytest.mark.parametrize("scenes", [1, 2, 5, 6, 23])
def test_fewer_scenes_than_asked_are_counted_in_a_note(scenes: int) -> None:
    verdict = judge(PROPAGATION, {"warp": paired(0.5, scenes=scenes)})
    assert any(f"Scenes: {scenes}, fewer than the {SCENES_REQUIRED}" in note for note in verdict.notes)
    assert verdict.ruling == ("replicates" if scenes >= 6 else "undecided")
    if scenes < 6:
        assert any("Nothing can be decided" in note for note in verdict.notes)
        assert "the interval excludes" not in sentence(verdict)
    assert ("1 scene," in sentence(verdict)) == (scenes == 1)


def test_scenes_of_one_row_only_are_left_out_and_told() -> None:
    pair = paired(0.5)
    more = Pair(first={**pair.first, "extra": 100.0}, second={**pair.second, "other": 0.0}, signature="x")
    verdict = judge(PROPAGATION, {"warp": more})
    assert found(verdict, "warp").comparison == found(judge(PROPAGATION, {"warp": pair}), "warp").comparison
    assert any("left out (2)" in note for note in verdict.notes)
    apart = Pair(first={"a": 1.0}, second={"b": 1.0})
    assert "share no scene" in sentence(judge(PROPAGATION, {"warp": apart}))


def test_missing_numbers_are_untested_with_their_reasons() -> None:
    verdict = judge(PROPAGATION, {})
    assert verdict.ruling == "untested"
    assert "Nothing to compare (warp error of novel views: not measured)." in sentence(verdict)
    lacking = Pair(reason="no weights, fetch them")
    half = judge(BOTH, {"lpips_novel": paired(0.5), "psnr_novel": lacking})
    assert half.ruling == "replicates"
    assert "Not compared: PSNR of novel views (no weights, fetch them)." in half.notes
    assert "The verdict on “Normal loss: rendering” is without PSNR of novel views." in half.notes
    with pytest.raises(DataError, match="no such measure: lpips;"):
        judge(BOTH, {"lpips": paired(0.5)})


# ---- values that are not ordinary ----


def test_infinite_psnr_of_both_rows_is_a_tie_and_of_one_a_win() -> None:
    base = swapped(paired(0.5, base=30))
    first, second = dict(base.first), dict(base.second)
    first["s00"] = second["s00"] = math.inf
    pairs = {"lpips_novel": paired(0.5), "psnr_novel": Pair(first=first, second=second)}
    finding = found(judge(BOTH, pairs), "psnr_novel")
    assert finding.comparison is not None
    assert (finding.comparison.wins, finding.comparison.ties) == (23, 1)
    assert (finding.first, finding.relative, finding.outcome) == (math.inf, None, "better")
    second["s00"] = 30.0
    finding = found(judge(BOTH, {**pairs, "psnr_novel": Pair(first=first, second=second)}), "psnr_novel")
    assert finding.difference is not None
    assert finding.difference.mean == math.inf
    assert "PSNR of novel views rises by ∞ dB [" in sentence(
        judge(BOTH, {**pairs, "psnr_novel": Pair(first=first, second=second)})
    )


def test_infinities_both_ways_have_no_mean_and_decide_nothing() -> None:
    base = swapped(paired(0.5, base=30))
    first, second = {**base.first, "s00": math.inf}, {**base.second, "s01": math.inf}
    verdict = judge(BOTH, {"lpips_novel": paired(0.5), "psnr_novel": Pair(first=first, second=second)})
    assert found(verdict, "psnr_novel").outcome == "undecided"
    assert verdict.ruling == "undecided"
    assert "infinitely better on some scenes and infinitely worse on others" in sentence(verdict)


def test_a_number_of_the_set_has_no_test_and_decides_nothing() -> None:
    verdict = judge(PROPAGATION, {"warp": paired(0.5), "fvd": Pair(totals=(10.0, 300.0))})
    finding = found(verdict, "fvd")
    assert (finding.first, finding.second, finding.p, finding.outcome) == (10.0, 300.0, None, "no test")
    assert found(verdict, "warp").p == found(judge(PROPAGATION, {"warp": paired(0.5)}), "warp").p


def test_below_the_reference_itself_lower_is_not_better() -> None:
    pair = paired(0.5, base=5.0, noise=0.01)
    under = Pair(first=pair.first, second=pair.second, floor=dict.fromkeys(pair.first, 20.0))
    verdict = judge(PROPAGATION, {"warp": under})
    assert verdict.ruling == "undecided"
    assert any("in 24 scenes a value lies below the reference's own" in note for note in verdict.notes)
    assert not any("was not measured" in note for note in verdict.notes)
    assert (
        "warp error of novel views is at or below the reference's own in both rows, where lower is not better, "
        "on every one of 24 scenes." in sentence(verdict)
    )
    over = Pair(first=pair.first, second=pair.second, floor=dict.fromkeys(pair.first, 0.0))
    assert judge(PROPAGATION, {"warp": over}).ruling == "replicates"


def test_what_is_printed_beside_a_floored_difference_is_floored_too() -> None:
    pair = paired(1.0, base=5.0, noise=0.1)
    floor = {scene: value - 0.4 for scene, value in pair.second.items()}  # the first row is below everywhere
    finding = found(
        judge(PROPAGATION, {"warp": Pair(first=pair.first, second=pair.second, floor=floor)}), "warp"
    )
    assert finding.difference is not None
    assert finding.difference.mean == pytest.approx(-0.4)
    assert finding.first == pytest.approx(np.mean(list(floor.values())))
    assert finding.second == pytest.approx(np.mean(list(pair.second.values())))
    assert finding.relative == pytest.approx(-0.4 / finding.first)  # type: ignore[operator]  # it was measured


def test_scenes_on_which_both_rows_reach_the_floor_show_nothing() -> None:
    pair = paired(0.5, scenes=8, base=5.0, noise=0.01)
    floor = {scene: 20.0 if n < 3 else 0.0 for n, scene in enumerate(sorted(pair.first))}
    verdict = judge(PROPAGATION, {"warp": Pair(first=pair.first, second=pair.second, floor=floor)})
    finding = found(verdict, "warp")
    assert (finding.at_floor, finding.least_p) == (3, minimum_p(5))
    assert verdict.ruling == "undecided"
    assert (
        "Nothing can be decided by 1 metric: no p can fall below 0.062 after Holm (scenes that differ: 5)."
        in verdict.notes
    )
    assert "too few scenes to exclude anything" in sentence(verdict)
    same = dict.fromkeys(pair.first, 5.0)
    verdict = judge(PROPAGATION, {"warp": Pair(first=same, second=same, floor=floor)})
    assert "in both rows, where lower is not better, on 3 of 8 scenes and the same on the others" in sentence(
        verdict
    )


def test_where_some_floors_are_known_those_scenes_alone_are_compared() -> None:
    pair = paired(0.5, base=5.0)
    floor = dict.fromkeys(sorted(pair.first)[:10], 0.0)
    verdict = judge(PROPAGATION, {"warp": Pair(first=pair.first, second=pair.second, floor=floor)})
    known = Pair(first={s: pair.first[s] for s in floor}, second={s: pair.second[s] for s in floor})
    assert found(verdict, "warp").comparison == found(judge(PROPAGATION, {"warp": known}), "warp").comparison
    assert verdict.scenes == 10
    assert any(
        "compared on the 10 of 24 scenes where the reference's own was measured" in n for n in verdict.notes
    )
    elsewhere = Pair(first=pair.first, second=pair.second, floor={"other": 1.0})
    verdict = judge(PROPAGATION, {"warp": elsewhere})
    assert verdict.scenes == 24
    assert any("the reference's own was not measured" in note for note in verdict.notes)


def test_a_verdict_depends_on_its_arguments_alone() -> None:
    pairs = {key: paired(0.1, seed=n) for n, key in enumerate(MEASURES) if key != "fvd"}
    first = judge(BOTH, pairs)
    np.random.seed(7)  # noqa: NPY002  # the global state, which must not matter
    turned = {
        key: Pair(
            first=dict(sorted(pairs[key].first.items(), reverse=True)),
            second=dict(sorted(pairs[key].second.items(), reverse=True)),
        )
        for key in reversed(pairs)
    }
    assert judge(BOTH, turned) == first
    assert sentence(judge(BOTH, turned)) == sentence(first)


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (None, "–"),
        (1.0, "1"),
        (0.0412, "0.041"),
        (0.00042, "0.00042"),
        (1e-5, "0.00001"),
        (1e-7, "less than 0.00001"),
    ],
)
def test_p_values_are_printed_with_the_digits_they_have(p: float | None, text: str) -> None:
    assert p_text(p) == text


def test_a_difference_is_printed_with_digits_that_show_it() -> None:
    pair = Pair(first={"s": 0.94600}, second={"s": 0.94567})
    assert "CLIP-toy between views changes by +0.00033 (1 scene, p = 1)" in sentence(
        judge(CLAIMS["normal-consistency"], {"clip_toy_views": pair})
    )
    fine = judge(PROPAGATION, {"warp": paired(0.0031, noise=0.001)})
    assert "falls by 0.00310 [0.00" in sentence(fine)
