"""`mvtf-eval claims` over records on disk: pairing by scene and seed, what is missing, forms, the page."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from manifests import make_manifest

from mvtokenflow.base.marked import markers
from mvtokenflow.baselines.catalogue import NATIVES, method_named
from mvtokenflow.baselines.method import Setup
from mvtokenflow.datasets.catalogue import open_dataset
from mvtokenflow.datasets.layout import AZIMUTHS_DEG
from mvtokenflow.eval.claims.collect import rows_of
from mvtokenflow.eval.claims.rivals import RIVAL_CLAIMS
from mvtokenflow.eval.claims.sentences import p_text
from mvtokenflow.eval.claims.specs import CLAIMS, MEASURES
from mvtokenflow.eval.protocols import PROTOCOLS
from mvtokenflow.eval.records.rows import FeatureRow, Row, Stage, feature_log, row_log
from mvtokenflow.eval.records.summary import Missing, Summary
from mvtokenflow.eval.tables.render import Job, stages_folder

ROOT = Path(__file__).resolve().parents[2]
PROTOCOL = PROTOCOLS["toy4d-v2"]
BEGIN, END = markers("claims")
TOYS = open_dataset("toy4d")
SCENES = list(TOYS.scene_names())
TEN = SCENES[:10]  # enough to decide, and few enough to enumerate
BASE = {measure.key: 5.0 for measure in MEASURES.values()} | {"psnr_novel": 25.0}
Cli = Callable[..., Any]


def _views(key: str) -> list[str]:
    """The views that a measure is of."""
    place = MEASURES[key].column.place
    assert place is not None
    return [view for view in ("input", *AZIMUTHS_DEG, "*") if view in place]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Writes scored run folders of the method's rows below `root`."""

    root: Path

    def write(
        self,
        method: str,
        scene: str,
        values: Mapping[str, float],
        *,
        seed: int = 0,
        clips: float | None = None,
        missing: Mapping[str, str] | None = None,
        signature: str = "v:1",
        pedigree: Mapping[str, Any] | None = None,
    ) -> Path:
        """One run; `values` by key of measure, `clips` the offset of its logits from the reference's."""
        native = method_named(method, Setup(store=stages_folder(self.root)))
        job = Job(dataset=TOYS, method=native, scene=scene, seed=seed, root=self.root)
        folder = job.folder()
        name = f"{method}/{scene}/{seed}"
        rows = [
            Row(
                key=f"{name}/{key}/{view}",
                object=scene,
                view=view,
                frame=0,
                metric=MEASURES[key].column.metric if key in MEASURES else key,
                value=value,
                signature=f"{key}|{signature}",
            )
            for key, value in values.items()
            for view in (_views(key) if key in MEASURES else AZIMUTHS_DEG)
        ]
        features = [] if clips is None else [self._clip(name, scene, view, clips) for view in AZIMUTHS_DEG]
        row_log(folder).append(rows)
        if features:
            feature_log(folder).append(features)
        keys = frozenset([row.key for row in rows] + [clip.key for clip in features])
        Summary(
            protocol=PROTOCOL.name,
            keys=keys,
            measured=frozenset(),
            missing=[Missing(metric=metric, reason=reason) for metric, reason in (missing or {}).items()],
            findings=(),
            pedigree={"device": "cpu", "weights": {"lpips-vgg": "a" * 64}},
        ).save(folder, rows, PROTOCOL)
        make_manifest(
            dataset="toy4d",
            method=method,
            scene=scene,
            seed=seed,
            config={"views": "b" * 64},
            config_hash=job.config_hash(),
            reference_root="data",
            prediction_digest="c" * 64,
            pedigree={
                "device": "a GPU",
                "code": {"version": "9.9", "commit": "d" * 40},
                "packages": {"torch": "2"},
                **(pedigree or {}),
            },
            stages=(Stage(name="render", wall_s=1.0, peak_mib=1.0),),
        ).save(folder / "manifest.json")
        return folder

    @staticmethod
    def _clip(name: str, scene: str, view: str, offset: float) -> FeatureRow:
        logits = np.random.default_rng([*f"{scene}/{view}".encode()]).normal(size=8)
        return FeatureRow(
            key=f"{name}/fvd/{view}",
            object=scene,
            view=view,
            clip=0,
            metric="fvd",
            signature="fvd|v:1",
            pred=list(logits + offset),
            reference=list(logits),
        )


def numbers(scene: str, row: str, gains: Mapping[str, float]) -> dict[str, float]:
    """Numbers of a row on a scene; the whole method is better by `gains` and some noise, one pass by half."""
    found = {}
    share = {"mvtokenflow": 1.0, "no-regeneration": 0.5}.get(row, 0.0)
    for key in gains:
        rng = np.random.default_rng([*f"{scene}/{key}".encode()])
        value = BASE[key] + float(rng.normal())
        better = gains[key] + 0.02 * float(rng.normal())
        sign = 1 if MEASURES[key].column.better == "higher" else -1
        found[key] = value + sign * better * share
    return found


GAINS = {
    "lpips_input": 0.2,
    "lpips_novel": 0.2,
    "psnr_novel": -0.2,
    "fvd_c4d_input": 0.2,
    "fvd_c4d_novel": 0.2,
    "warp": 0.2,
    "clip_toy_views": 0.0,
    "flow_epe_input": 0.2,
    "flow_epe_novel": 0.2,
    "normal_deg": 0.2,
}


def fill(root: Path, scenes: Sequence[str] = TEN, rows: Sequence[str] = tuple(NATIVES)) -> Rows:
    made = Rows(root=root)
    for scene in scenes:
        for row in rows:
            made.write(
                row,
                scene,
                {**numbers(scene, row, GAINS), "warp_floor": 0.0},
                clips=0.5 if row == "mvtokenflow" else 1.0,
                missing={
                    "clip_views": "weights clip are not here; run `mvtf-eval weights fetch clip-vit-b32-openai`"
                },
            )
    return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("claims") / "runs"
    fill(root)
    return root


@pytest.fixture(autouse=True)
def without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))


def strict(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def document(cli: Cli, runs: Path, *more: object) -> Any:
    done = cli("claims", "--runs", runs, "--format", "json", *more)
    assert done.code == 0, done.err
    return strict(done.out)


def claim(found: Any, key: str) -> Any:
    return next(entry for entry in found["claims"] if entry["claim"] == key)


def metric(found: Any, key: str, measure: str) -> Any:
    return next(entry for entry in claim(found, key)["metrics"] if entry["measure"] == measure)


# ---- whole grids ----


def test_all_claims_are_judged_on_the_scenes_there_are(cli: Cli, whole: Path) -> None:
    found = document(cli, whole)
    verdicts = {entry["claim"]: entry["verdict"] for entry in found["claims"]}
    assert verdicts == {
        **dict.fromkeys(CLAIMS, "replicates"),
        "normal-consistency": "undecided",  # CLIP has no weights, and CLIP-toy is a proxy
        "normal-rendering": "undecided",  # LPIPS better, PSNR worse
    }
    assert [entry["what"] for entry in found["missing"]] == [
        f"14 of 24 scenes lack scored runs of {', '.join(rows_of(list(CLAIMS.values())))}."
    ]
    for entry in found["claims"]:
        assert entry["scenes"] == 10
        by_key = {m["measure"]: m for m in entry["metrics"]}
        assert set(by_key) == set(MEASURES)
        gain = 0.1 if "no-regeneration" in (entry["row"], entry["against"]) else 0.2
        assert by_key["warp"]["difference"] == pytest.approx(-gain, abs=0.02)
        assert by_key["psnr_novel"]["difference"] == pytest.approx(-gain, abs=0.02)
        assert (by_key["psnr_novel"]["outcome"], by_key["warp"]["outcome"]) == ("worse", "better")
        assert "`mvtf-eval weights fetch clip-vit-b32-openai`" in by_key["clip_views"]["reason"]
        assert any(note.startswith("Not compared: ") for note in entry["notes"])
        roles = {
            role: {m["measure"] for m in entry["metrics"] if m["role"] == role} for role in ("primary", "guard")
        }
        assert roles == {
            "primary": {*CLAIMS[entry["claim"]].primary},
            "guard": {*CLAIMS[entry["claim"]].guards},
        }


def test_the_set_distance_stands_side_by_side_without_a_test(cli: Cli, whole: Path) -> None:
    entry = metric(document(cli, whole), "flow", "fvd")
    assert entry["with"] == pytest.approx(8 * 0.5**2)  # equal covariances: the distance of the means
    assert entry["without"] == pytest.approx(8 * 1.0**2)
    assert (entry["p"], entry["outcome"]) == (None, "no test")


def test_where_the_numbers_come_from(cli: Cli, whole: Path) -> None:
    found = document(cli, whole)
    origin = found["pedigree"]
    assert origin["protocol"] == "toy4d-v2"
    assert origin["scenes"] == TEN
    assert (origin["seeds"], origin["prior"]) == ([0], ["b" * 64])
    assert (origin["rendered on"], origin["measured on"]) == (["a GPU"], ["cpu"])
    assert origin["code"] == ["9.9 (dddddddddddd)"]
    assert origin["runs"] == dict.fromkeys(sorted(NATIVES), 10)
    assert found["signatures"]["warp"].startswith("warp|v:1|")
    assert "objects:10" in found["signatures"]["warp"]


def test_equal_records_give_equal_bytes_and_nothing_is_written(cli: Cli, whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    outs = [cli("claims", "--runs", whole, "--format", form).out for form in ("md", "json") * 2]
    assert outs[:2] == outs[2:]
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_terminal_and_markdown_say_the_same_sentences(cli: Cli, whole: Path) -> None:
    found = document(cli, whole)
    shown = " ".join(cli("claims", "--runs", whole).out.split())
    text = " ".join(cli("claims", "--runs", whole, "--format", "md").out.split()).replace("\\", "")
    for entry in found["claims"]:
        assert entry["sentence"] in shown
        assert re.search(rf"\| \*\*{entry['verdict']}\*\* \| (In renderings of the field, w|W)ith ", text)
        assert entry["sentence"].removeprefix(f"{entry['title']}: {entry['verdict']}. ") in text
        assert f"**{entry['title']}: {entry['verdict']}.** {entry['says']}" in text
    assert "`mvtokenflow` against `coarse`" in text
    assert "313.47 / 341.50" in text, "the paper's own numbers of table 3"


def test_markdown_tables_are_whole(cli: Cli, whole: Path) -> None:
    text = cli("claims", "--runs", whole, "--format", "md").out
    blocks = re.findall(r"(?:^\|.*\|\n)+", text, re.M)
    assert len(blocks) == 1 + len({(c.row, c.against) for c in CLAIMS.values()})
    for block in blocks:
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(cells) == 1


def test_a_table_of_several_claims_shows_each_metric_as_its_own_claim_sees_it(cli: Cli, whole: Path) -> None:
    text = cli("claims", "--runs", whole, "--format", "md").out.replace("\\", "")
    table = text.split("### `mvtokenflow` against `no-normal`")[1].split("###")[0]
    cells = {
        line.split(" | ")[0][2:-2]: line.split(" | ") for line in table.splitlines() if line.startswith("| ")
    }
    found = document(cli, whole)
    for name, key, measure in (
        ("**Normal error", "normal-geometry", "normal_deg"),
        ("**LPIPS of novel views", "normal-rendering", "lpips_novel"),  # and the guard of another
        ("**CLIP-toy between views", "normal-consistency", "clip_toy_views"),
    ):
        line = next(cells for head, cells in cells.items() if head.startswith(name))
        assert line[6] == p_text(metric(found, key, measure)["p_holm"])
    guarded = text.split("### `no-regeneration` against `no-propagation`")[1].split("###")[0]
    assert "\n| *LPIPS of novel views ↓* | " in guarded
    assert "\n| **Warp error of novel views ↓** | " in guarded


def test_rivals_are_judged_when_asked_for(cli: Cli, tmp_path: Path) -> None:
    made = Rows(root=tmp_path)
    for scene in SCENES[:8]:
        for row, value in (("mvtokenflow", 1.0), ("sc4d", 2.0)):
            noise = float(np.random.default_rng([*f"{scene}/{row}".encode()]).normal()) / 20
            made.write(row, scene, {"lpips_novel": value + noise, "fvd_c4d_novel": value, "lpips_input": value})
    found = document(cli, tmp_path, "--claims", "rivals", "--scenes", ",".join(SCENES[:8]))
    assert [entry["claim"] for entry in found["claims"]] == list(RIVAL_CLAIMS)
    novel = claim(found, "sc4d-novel-views")
    assert (novel["row"], novel["against"], novel["scenes"]) == ("mvtokenflow", "sc4d", 8)
    assert novel["sentence"].startswith("Beside SC4D: novel views: replicates. Compared with SC4D, LPIPS")
    assert claim(found, "stag4d-novel-views")["verdict"] == "untested"
    missing = {entry["what"]: entry["command"] for entry in found["missing"]}
    assert missing["8 of 8 scenes lack scored runs of consistent4d, stag4d, dg4d."].startswith(
        "mvtf-eval table1 --methods consistent4d,stag4d,dg4d --scenes "
    )
    text = cli("claims", "--runs", tmp_path, "--claims", "rivals", "--format", "md").out
    assert "| metric | ours | theirs | difference |" in text
    assert "0.1216 / 0.1659" in text, "the paper's own numbers of table 2"
    both = document(cli, tmp_path, "--claims", "all", "--scenes", SCENES[0])
    assert [entry["claim"] for entry in both["claims"]] == [*CLAIMS, *RIVAL_CLAIMS]


def test_no_rival_is_asked_for_by_default(cli: Cli, tmp_path: Path) -> None:
    done = cli("claims", "--runs", tmp_path / "none")
    assert "sc4d" not in done.err
    asked = cli("claims", "--runs", tmp_path / "none", "--claims", "rivals")
    assert "mvtf-eval table1 --methods mvtokenflow,consistent4d,sc4d,stag4d,dg4d --scenes all" in asked.err
    wrong = cli("claims", "--runs", tmp_path / "none", "--claims", "rival")
    assert (wrong.code, "rivals" in wrong.err) == (2, True)


# ---- parts of grids ----


def test_without_runs_it_says_which_command_makes_them(cli: Cli, tmp_path: Path) -> None:
    done = cli("claims", "--runs", tmp_path / "none", "--seeds", "0,1")
    assert done.code == 2
    assert "holds no finished run of toy4d that was scored under toy4d-v2" in done.err
    assert "mvtf-eval table3 --methods mvtokenflow,no-enlarged-attention," in done.err
    assert "--scenes all --dataset toy4d --protocol toy4d-v2 --preset mini --seeds 0,1 --runs" in done.err


def test_rows_and_scenes_that_lack_runs_are_told_with_their_command(cli: Cli, tmp_path: Path) -> None:
    made = fill(tmp_path, SCENES[:7], ["mvtokenflow", "no-flow"])
    made.write("no-flow", SCENES[7], numbers(SCENES[7], "no-flow", GAINS))
    found = document(cli, tmp_path, "--scenes", ",".join(SCENES[:8]))
    assert claim(found, "flow")["scenes"] == 7
    assert any("Scenes: 7, fewer than the 24" in note for note in claim(found, "flow")["notes"])
    assert claim(found, "refinement")["verdict"] == "untested"
    assert "no scored run of coarse" in claim(found, "refinement")["sentence"]
    commands = {entry["what"]: entry["command"] for entry in found["missing"]}
    text = cli("claims", "--runs", tmp_path, "--scenes", ",".join(SCENES[:8]), "--format", "md").out
    assert len(re.findall(r"^\| metric ", text, re.M)) == 1, "no tables without numbers"
    assert re.findall(r"^### `(.*)` against `(.*)`$", text, re.M) == [("mvtokenflow", "no-flow")]
    assert text.split("### Not compared")[1].count("no scored run of") == 7, "a line for each other comparison"
    alone = commands["1 of 8 scenes lack scored runs of mvtokenflow."]
    assert f"table3 --methods mvtokenflow --scenes {SCENES[7]} " in alone
    others = next(text for what, text in commands.items() if what.startswith("8 of 8 scenes"))
    assert (
        "--methods no-enlarged-attention,no-regeneration,no-propagation,no-flow-loss,no-normal,coarse "
        in others
    )


def test_metrics_that_no_table_measured_yet_are_told_with_their_command(cli: Cli, tmp_path: Path) -> None:
    made = Rows(root=tmp_path)
    for row in ("mvtokenflow", "coarse"):
        made.write(row, SCENES[0], {"lpips_novel": 0.5, "psnr_novel": 20.0})
    found = document(cli, tmp_path, "--scenes", SCENES[0])
    assert metric(found, "refinement", "warp")["reason"] == "not measured by the tables so far; table3 does"
    commands = [entry["command"] for entry in found["missing"]]
    assert any(
        c.startswith(f"mvtf-eval table3 --methods mvtokenflow,coarse --scenes {SCENES[0]} ") for c in commands
    )


def test_rows_that_are_not_the_whole_method_are_compared_too(cli: Cli, tmp_path: Path) -> None:
    fill(tmp_path, SCENES[:8], ["no-regeneration", "no-propagation"])
    found = document(cli, tmp_path, "--scenes", ",".join(SCENES[:8]))
    front = claim(found, "front-propagation")
    assert (front["row"], front["against"]) == ("no-regeneration", "no-propagation")
    assert (front["verdict"], front["scenes"]) == ("replicates", 8)
    assert metric(found, "front-propagation", "warp")["difference"] == pytest.approx(-0.1, abs=0.02)
    for key in ("propagation", "regeneration"):
        assert claim(found, key)["verdict"] == "untested"
        assert "no scored run of mvtokenflow" in claim(found, key)["sentence"]


def test_only_seeds_that_both_rows_have_are_compared(cli: Cli, tmp_path: Path) -> None:
    made = Rows(root=tmp_path)
    made.write("mvtokenflow", SCENES[0], {"warp": 1.0})
    made.write("mvtokenflow", SCENES[0], {"warp": 3.0}, seed=1)
    made.write("no-propagation", SCENES[0], {"warp": 2.0})
    one = metric(document(cli, tmp_path, "--seeds", "0,1"), "propagation", "warp")
    assert (one["with"], one["without"]) == (1.0, 2.0), "seed 1 has no partner"
    made.write("no-propagation", SCENES[0], {"warp": 6.0}, seed=1)
    both = metric(document(cli, tmp_path, "--seeds", "0,1"), "propagation", "warp")
    assert (both["with"], both["without"], both["scenes"]) == (2.0, 4.0, 1)


def test_other_presets_and_configurations_are_other_runs(cli: Cli, whole: Path) -> None:
    assert cli("claims", "--runs", whole, "--preset", "paper").code == 2
    assert cli("claims", "--runs", whole, "--preset", "none").code == 2
    assert cli("claims", "--runs", whole, "--protocol", "toy4d-v1").code == 2


def test_rows_measured_in_different_ways_are_refused(cli: Cli, tmp_path: Path) -> None:
    made = Rows(root=tmp_path)
    made.write("mvtokenflow", SCENES[0], {"warp": 1.0})
    made.write("no-flow", SCENES[0], {"warp": 2.0}, signature="v:2")
    refused = cli("claims", "--runs", tmp_path)
    assert refused.code == 2
    assert "measured in different ways" in refused.err
    found = document(cli, tmp_path, "--allow-mixed")
    assert metric(found, "flow", "warp")["difference"] == -1.0


def test_a_measured_floor_counts(cli: Cli, tmp_path: Path) -> None:
    made = Rows(root=tmp_path)
    for scene in SCENES[:8]:
        made.write("mvtokenflow", scene, {"warp": 1.0, "warp_floor": 2.0})
        made.write("no-propagation", scene, {"warp": 1.5, "warp_floor": 2.0})
    entry = claim(document(cli, tmp_path), "propagation")
    assert entry["verdict"] == "undecided"
    assert any("in 8 scenes a value lies below the reference's own" in note for note in entry["notes"])


def test_floors_that_are_not_measured_are_told_with_their_command(cli: Cli, tmp_path: Path) -> None:
    made = Rows(root=tmp_path)
    for n, scene in enumerate(SCENES[:8]):
        floor = {"warp_floor": 0.5} if n < 6 else {}
        made.write("mvtokenflow", scene, {"warp": 1.0 + 0.01 * n, **floor})
        made.write("no-propagation", scene, {"warp": 1.5, **floor})
    found = document(cli, tmp_path)
    assert (metric(found, "propagation", "warp")["scenes"], claim(found, "propagation")["scenes"]) == (6, 6)
    assert any("compared on the 6 of 8 scenes" in note for note in claim(found, "propagation")["notes"])
    command = next(e["command"] for e in found["missing"] if e["command"].startswith("mvtf-eval table2"))
    assert f"--methods mvtokenflow,no-propagation --scenes {SCENES[6]},{SCENES[7]} " in command


def test_rows_that_were_not_computed_alike_are_told_once(cli: Cli, tmp_path: Path) -> None:
    made = Rows(root=tmp_path)
    for n, scene in enumerate(SCENES[:3]):
        made.write("mvtokenflow", scene, {"warp": 1.0})
        made.write("no-propagation", scene, {"warp": 2.0})
        later = {"code": {"version": "9.9", "commit": "e" * 40}, "packages": {"torch": "2", "gsplat": "1.5"}}
        made.write("no-normal", scene, {"warp": 2.0}, pedigree={**later, "device": "cpu"} if n else None)
    told = (
        "The two rows were not computed alike (scenes: 2): code 9.9 (dddddddddddd) against 9.9 (eeeeeeeeeeee); "
        "device a GPU against cpu; gsplat unknown against 1.5."
    )
    found = document(cli, tmp_path)
    for entry in found["claims"]:
        assert entry["notes"].count(told) == (entry["against"] == "no-normal")
        assert ("not computed alike" in str(entry["notes"])) == (entry["against"] == "no-normal")
    text = cli("claims", "--runs", tmp_path, "--format", "md").out
    assert text.count(told) == 1, "three claims, one comparison"


# ---- files ----


def test_a_file_instead_of_stdout(cli: Cli, whole: Path, tmp_path: Path) -> None:
    for form in ("json", "terminal"):
        printed = cli("claims", "--runs", whole, "--format", form).out
        done = cli("claims", "--runs", whole, "--format", form, "-o", tmp_path / form)
        assert (done.code, done.out) == (0, "")
        assert (tmp_path / form).read_text() == printed
    assert cli("claims", "--runs", whole, "--format", "xml").code == 2


def test_what_is_no_regular_file_is_not_replaced(cli: Cli, whole: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for place in (pipe, tmp_path):
        refused = cli("claims", "--runs", whole, "-o", place)
        assert refused.code == 2
        assert "not a regular file" in refused.err
    assert pipe.is_fifo()


def test_the_page_keeps_what_is_outside_the_markers(cli: Cli, whole: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n{BEGIN}\nwhat was here before\n{END}\n\n## Why\n\nmine\n")
    for _ in range(2):
        assert cli("claims", "--runs", whole, "--markdown", page).code == 0
        text = page.read_text()
        assert text.startswith(f"# Title\n\n{BEGIN}\n")
        assert text.endswith(f"{END}\n\n## Why\n\nmine\n")
        assert "what was here before" not in text
    assert cli("claims", "--runs", whole, "--format", "md").out in page.read_text()
    assert "/weights" not in page.read_text(), "a page names no folder of this machine"
    page.write_text("# Title\n")
    refused = cli("claims", "--runs", whole, "--markdown", page)
    assert refused.code == 2
    assert BEGIN in refused.err
    assert cli("claims", "--runs", whole, "--markdown", tmp_path / "none.md").code == 2


def test_the_page_of_the_claims_has_a_place_for_every_why() -> None:
    page = (ROOT / "docs" / "claims.md").read_text()
    assert page.count(BEGIN) == page.count(END) == 1
    why = page.split("\n## Why\n")[1]
    for found in CLAIMS.values():
        assert f"\n### {found.title}\n" in why
        line = next(line for line in page.split(BEGIN)[0].splitlines() if line.startswith(f"| {found.title} |"))
        assert f"`{found.row}`, `{found.against}`" in line
        named = {*found.primary, *found.guards}
        assert {f"`{MEASURES[key].column.metric}`" in line for key in named} == {True}
    assert re.findall(r"^### (.*)$", why, re.M) == [found.title for found in CLAIMS.values()]
