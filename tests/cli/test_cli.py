"""`mvtf-eval`: quick help with examples, data on stdout, messages on stderr, exit codes, short errors."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mvtokenflow
from mvtokenflow.cli.eval.common import options
from mvtokenflow.cli.eval.grid import request_of
from mvtokenflow.datasets.toy4d import scenes as toy4d
from mvtokenflow.datasets.toy4d.dataset import Toy4D
from mvtokenflow.datasets.toy4d.stream import RADIUS
from mvtokenflow.eval.protocols import INPUT, NOVEL, PROTOCOLS
from mvtokenflow.eval.tables.specs import TABLES
from mvtokenflow.views.cameras import orbit

VERBS = (
    *(
        "score",
        "table1",
        "table2",
        "table3",
        "table4",
        "report",
        "plot",
        "explain",
        "regress",
        "ambiguity",
        "align",
    ),
    *("ablate", "audit", "claims", "protocols", "doctor", "values", "import", "published"),
    *(f"weights {verb}" for verb in ("list", "fetch", "verify", "pack", "unpack")),
    *(f"datasets {verb}" for verb in ("list", "prepare", "difficulty", "verify")),
)


@pytest.fixture(autouse=True)
def _no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs weights is tested elsewhere; here it reads missing, the same on every machine."""
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "no-weights"))
    monkeypatch.delenv("MVTF_CONSISTENT4D", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def grid(tiny: ModuleType, tmp_path: Path) -> list[object]:
    """Options of every verb that works on runs."""
    return [
        *("--dataset", "tinyscenes:Tiny", "--root", tmp_path / "data", "--runs", tmp_path / "runs"),
        *("--protocol", "toy4d-v1", "--scenes", "ant"),
    ]


def test_help_is_quick_because_it_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['mvtf-eval', *sys.argv[1:]]\n"
        "from mvtokenflow.cli.mvtf_eval import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'numpy', 'scipy', 'PIL', 'numba', 'cv2', 'rich.progress'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    for arguments in (["--help"], ["table1", "--help"], ["--version"]):
        ended = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_shows_an_example_that_names_it(verb: str, cli: Any) -> None:
    outcome = cli(*verb.split(), "--help")
    assert outcome.code == 0
    assert outcome.err == ""
    example = re.search(r"Example: mvtf-eval (.*)", outcome.out)
    assert example, outcome.out
    said = example.group(1).split()
    assert said[: len(verb.split())] == verb.split() or (
        verb.startswith("table") and said[0].startswith("table")
    )
    for option in (word for word in said if word.startswith("-")):
        assert option in outcome.out.replace(example.group(0), ""), f"{option} of the example is no option"


def test_the_list_of_verbs_above_is_whole(cli: Any) -> None:
    from typer.main import get_command

    from mvtokenflow.cli.mvtf_eval import app

    tree: Any = get_command(app)
    found = {
        f"{name} {sub}".strip()
        for name, command in tree.commands.items()
        for sub in (getattr(command, "commands", None) or [""])
    }
    assert found == set(VERBS)
    assert cli("--version").out.strip() == mvtokenflow.__version__


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["scor"], "score"),
        (["table9"], "table4"),
        (["weights", "fetsh"], "fetch"),
        (["weights", "fetch", "lpips-vg"], "Did you mean 'lpips-vgg'?"),
        (["score", "x", "--gt", "y", "--protocol", "c4d-v9"], "Did you mean 'c4d-v1'?"),
        (["score", "x", "--gtt", "y"], "--gt"),
        (["table1", "--dataset", "toy4"], "Did you mean 'toy4d'?"),
        (["table1", "--methods", "whit"], "Did you mean 'white'?"),
        (["table1", "--scenes", "bird-99"], "toy4d has no scene bird-99. Known: quadruped-01"),
        (["table1", "--seeds", "a"], "--seeds a: write whole numbers"),
        (["table1", "--seeds", "-1"], "--seeds -1: write whole numbers from 0 on"),
        (["table1", "--shard", "2/2"], "--shard 2/2: write i/n"),
        (["table1", "--format", "pdf"], "no table format 'pdf'"),
        (["table1", "--device", "cuda:99"], "--device cuda:99: not on this machine"),
        (["table1", "--device", "toaster"], "--device toaster: not on this machine"),
        (["table1", "--import", "theirs"], "write NAME=PATH"),
        (["table1", "--preset", "minni"], "Did you mean 'mini'?"),
        (["ablate", "--drop", "flw"], "no part of the method 'flw'. Did you mean 'flow'?"),
        (["ablate", "--drop", "flow+"], "no part of the method ''"),
        (["table3", "--methods", "no-flow+nrmal"], "Did you mean 'normal'?"),
        (["table1", "--import", "../../theirs=x"], "NAME becomes a folder"),
        (["table1", "--methods", "white", "--import", "white=."], "two rows named white"),
        (["explain", "tabel1", "white", "lpips"], "Did you mean 'table1'?"),
        (["explain", "table1", "white", "lpipss"], "table1 has no column lpipss"),
        (["explain", "table3", "white", "flow_epe"], "name one: 'Flow EPE input px' and 'Flow EPE px'"),
        (["align", "x"], "align needs either --gt FOLDER or --dataset toy4d"),
        (["align", "x", "--dataset", "consistent4d"], "only toy4d can be rendered from anywhere"),
        (["datasets", "list", "nowhere"], "no dataset 'nowhere'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_one_sentence_with_what_was_meant(arguments: list[str], says: str, cli: Any) -> None:
    outcome = cli(*arguments)
    assert outcome.code == 2, outcome
    assert says in outcome.err
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    assert list(Path().iterdir()) == [], "nothing was made before the mistake was noticed"


def test_json_is_one_document_on_stdout_and_messages_are_on_stderr(
    cli: Any, grid: list[object], layout: Any, tmp_path: Path
) -> None:
    pred, gt = layout(tmp_path / "pred", frames=1), layout(tmp_path / "gt", frames=1)
    commands: list[tuple[list[object], int]] = [
        (["weights", "list"], 0),
        (["weights", "verify"], 2),
        (["protocols"], 0),
        (["datasets", "list", "toy4d"], 0),
        (["doctor"], 0),
        (["table1", *grid, "--methods", "white", "--jobs", 1], 0),
        (["explain", "table1", "white", "psnr", *grid], 0),
        (["score", pred, "--gt", gt, "--record", tmp_path / "r", "--jobs", 1], 0),
        (["align", pred, "--gt", gt], 0),
        (["ambiguity", pred, "--gt", gt, "--protocol", "c4d-fixed-v1", "--jobs", 1], 0),
    ]
    for arguments, code in commands:
        outcome = cli(*arguments, "--json")
        assert outcome.code == code, (arguments, outcome.err)
        json.loads(outcome.out, parse_constant=pytest.fail)
    assert "score" in cli("score", pred, "--gt", gt, "--record", tmp_path / "r2", "--jobs", 1, "--json").err


def test_without_json_the_same_verbs_print_text(
    cli: Any, grid: list[object], layout: Any, tmp_path: Path
) -> None:
    assert "lpips-vgg" in cli("weights", "list").out
    assert "lpips-vgg: missing" in cli("weights", "verify", "lpips-vgg").out
    assert "assumed:" in cli("protocols").out
    assert "quadruped-01" in cli("datasets", "list").out
    for form, begins in (("md", "###"), ("csv", "method,"), ("json", "{"), ("html", "<!"), ("latex", "")):
        text = cli("table1", *grid, "--methods", "white", "--jobs", 1, "--format", form, "--no-quoted").out
        assert text.lstrip().startswith(begins), form
        assert "white" in text
    pred = layout(tmp_path / "pred", frames=1)
    shown = cli("score", pred, "--gt", pred, "--record", tmp_path / "r", "--jobs", 1)
    assert "average" in shown.out
    assert "lpips is missing" in shown.out
    assert "psnr|v:1" in shown.out
    assert f"records: {tmp_path / 'r'}" in shown.err


def test_protocols_prints_every_signature(cli: Any) -> None:
    printed = json.loads(cli("protocols", "--json").out)
    assert printed.keys() == PROTOCOLS.keys()
    for name, protocol in PROTOCOLS.items():
        assert printed[name]["signatures"] == {s.key: protocol.signature(s) for s in protocol.metrics}


def test_weights_list_says_what_is_missing_and_how_to_get_it(cli: Any) -> None:
    listed = json.loads(cli("weights", "list", "--json").out)
    assert {"lpips-vgg", "lpips-alex", "i3d-kinetics400", "clip-vit-b32-openai"} <= listed.keys()
    for name, entry in listed.items():
        if name in ("clip-toy4d", "prior-toy4d", "video-linear-toy4d"):  # they come with the package
            assert (entry["state"], entry["reason"]) == ("ready", None)
        else:
            assert entry["state"] == "missing"
            assert f"weights fetch {name}" in entry["reason"]
        assert all(len(file["sha256"]) == 64 and file["bytes"] > 0 for file in entry["files"])
        assert entry["licence"]
        assert entry["needed_by"]
        assert entry["bytes"] > 0


def test_doctor_names_the_command_that_mends(cli: Any) -> None:
    checks = {check["check"]: check for check in json.loads(cli("doctor", "--json").out)}
    assert checks["torch"]["ok"]
    assert checks["weights lpips-vgg"]["fix"].startswith("mvtf-eval weights fetch lpips-vgg; without network")
    assert "datasets verify" in checks["dataset consistent4d"]["fix"]
    assert "missing weights lpips-vgg" in cli("doctor").out


def test_explain_takes_a_cell_apart_and_notices_a_changed_prediction(
    cli: Any, grid: list[object], tmp_path: Path
) -> None:
    assert cli("table1", *grid, "--methods", "white", "--jobs", 1).code == 0
    document = json.loads(cli("explain", "table1", "white", "psnr", *grid, "--json").out)
    (run,) = document["runs"]
    assert document["value"] == pytest.approx(run["values"]["ant"]["value"])
    assert run["values"]["ant"]["views"]["input"]["frames"] == 4
    assert run["measured by"]["code"]["version"] == mvtokenflow.__version__
    assert "psnr|v:1" in document["signature"][0]
    screen = cli("explain", "table1", "white", "psnr", *grid).out
    assert "white / psnr" in screen
    assert len(screen.splitlines()) <= 24
    assert "mvtf-eval table1 " in screen, "the command can be pasted"
    assert run["prediction"] not in screen
    whole = cli("explain", "table1", "white", "psnr", *grid, "--tree").out
    assert run["prediction"][:20] in whole
    empty = json.loads(cli("explain", "table1", "mirrored", "psnr", *grid, "--json").out)
    assert (empty["value"], empty["missing"], empty["runs"]) == (None, "not run", [])
    picture = Path(run["folder"]) / "pred" / "input" / "1.png"
    pixels = np.array(Image.open(picture))
    pixels[0, 0] = 0
    Image.fromarray(pixels).save(picture)
    outcome = cli("explain", "table1", "white", "psnr", *grid)
    assert outcome.code == 2
    assert "changed since it was rendered" in outcome.err
    assert "delete the run folder" in outcome.err


def test_a_table_prints_the_columns_and_rows_that_were_asked_for(
    cli: Any, grid: list[object], tmp_path: Path
) -> None:
    asked = [
        "--methods",
        "white,blurred",
        "--jobs",
        1,
        "--no-quoted",
        "--columns",
        "psnr,ssim",
        "--rows",
        "white",
    ]
    beside = tmp_path / "signatures.txt"
    printed = cli("table2", *grid, *asked, "--format", "latex-tabular", "--signatures", beside)
    assert printed.code == 0, printed.err
    assert "Method & PSNR" in printed.out
    assert "LPIPS" not in printed.out
    assert "blurred" not in printed.out
    (psnr, ssim) = beside.read_text().splitlines()
    assert psnr.startswith("PSNR (psnr): psnr|v:1|")
    assert ssim.startswith("SSIM (ssim): ssim|v:1|")
    refused = cli("table2", *grid, *asked[:-1], "mirrored")
    assert (refused.code, "no such row; it has white, blurred" in refused.err) == (2, True)
    assert cli("table2", *grid, "--notes", "shortt").code == 2


def test_columns_are_named_by_title_or_by_a_metric_that_one_column_shows() -> None:
    from mvtokenflow.eval.tables.explain import column_named

    table3 = TABLES["table3"]
    assert column_named(table3, "lpips").place == INPUT, "a title in another case comes first"
    assert column_named(table3, "lpips NOVEL").place == column_named(table3, "warp").place == NOVEL
    assert column_named(table3, "Flow EPE px").metric == "flow_epe"


def test_without_scenes_toy4d_is_quick_and_any_other_dataset_whole(layout: Any, tmp_path: Path) -> None:
    def scenes(dataset: str, full: bool) -> list[str]:
        grid = {"dataset": dataset, "root": None, "scenes": None, "full": full, "runs": tmp_path}
        asked: Any = grid | {"methods": "white", "seeds": None, "protocol": None}
        return list(request_of("table1", options("cpu", 1, None), **asked).scenes)

    mine = layout(tmp_path / "mine", objects=tuple("abcdefg"), views=("",), frames=1)
    assert scenes(str(mine), full=False) == scenes(str(mine), full=True)
    assert len(scenes(str(mine), full=False)) == 7
    assert len(scenes("toy4d", full=False)) == 4
    assert len(scenes("toy4d", full=True)) == 24


def test_report_needs_runs_and_builds_from_records_alone(cli: Any, grid: list[object], tmp_path: Path) -> None:
    outcome = cli("report", *grid, "-o", tmp_path / "site")
    assert outcome.code == 2
    assert "holds no finished run of tiny" in outcome.err
    assert cli("table1", *grid, "--methods", "white", "--jobs", 1).code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    outcome = cli("report", *grid, "-o", tmp_path / "site", "--tables", "table1")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "site" / "index.html").is_file()
    assert {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()} == before


def test_pages_of_mixed_rows_are_built_when_asked(cli: Any, grid: list[object], tmp_path: Path) -> None:
    assert cli("table1", *grid, "--methods", "white,copy-input", "--jobs", 1).code == 0
    for manifest in (tmp_path / "runs").rglob("copy-input/**/manifest.json"):
        document = json.loads(manifest.read_bytes())
        document["pedigree"]["device"] = "another"
        manifest.write_text(json.dumps(document))
    pages = ("report", *grid, "-o", tmp_path / "site", "--tables", "table4", "--methods", "white,copy-input")
    refused = cli(*pages)
    assert refused.code == 2
    assert "--allow-mixed" in refused.err
    assert cli(*pages, "--allow-mixed").code == 0
    assert "another" in (tmp_path / "site" / "index.html").read_text()


# Alignment


def toy_views(root: Path, name: str, azimuths: list[float], mirror: bool = False) -> Path:
    """A toy4d scene seen from `azimuths`, 64 px, as a prediction of eval_0 to eval_3."""
    cameras = orbit(azimuths, size=64, kind="ortho", radius=RADIUS)
    picture = toy4d.render_scene(name, cameras, toy4d.frame_times()[::10], samples=1)
    pixels = ((picture.rgb * picture.alpha + 1 - picture.alpha) * 255).round().astype(np.uint8)
    for view in range(len(azimuths)):
        folder = root / name / f"eval_{view}"
        folder.mkdir(parents=True)
        for frame, shown in enumerate(pixels[:, view, :, :: -1 if mirror else 1]):
            Image.fromarray(np.ascontiguousarray(shown)).save(folder / f"{frame}.png")
    return root


TRUE_AZIMUTHS = [-75.0, 15.0, 105.0, 195.0]


def test_align_finds_the_yaw_of_a_toy(cli: Any, tmp_path: Path) -> None:
    pred = toy_views(tmp_path / "turned", "bird-01", [azimuth + 37 for azimuth in TRUE_AZIMUTHS])
    found = json.loads(cli("align", pred, "--dataset", "toy4d", "--json").out)["bird-01"]
    assert not found["aligned"]
    assert abs(found["yaw_deg"] - 37) <= 1
    assert not found["mirror"]
    assert not found["reverse"]
    assert min(found["iou_after"]) > max(0.75, max(found["iou_before"]) - 0.2)
    assert sum(found["iou_after"]) > sum(found["iou_before"]) + 0.2
    assert "NOT aligned: align:yaw+37" in cli("align", pred, "--dataset", "toy4d").out


def test_align_leaves_a_right_prediction_alone(cli: Any, tmp_path: Path) -> None:
    pred = toy_views(tmp_path / "right", "bird-01", TRUE_AZIMUTHS)
    for against in (["--dataset", "toy4d"], ["--gt", pred]):
        outcome = cli("align", pred, *against)
        assert outcome.code == 0, outcome.err
        assert "bird-01: aligned" in outcome.out


def test_align_finds_turned_and_mirrored_views_against_four_references(cli: Any, tmp_path: Path) -> None:
    gt = toy_views(tmp_path / "gt", "quadruped-01", TRUE_AZIMUTHS)
    turned = toy_views(tmp_path / "turned", "quadruped-01", [*TRUE_AZIMUTHS[1:], TRUE_AZIMUTHS[0]])
    found = json.loads(cli("align", turned, "--gt", gt, "--json").out)["quadruped-01"]
    assert (found["aligned"], found["yaw_deg"], found["mirror"]) == (False, 90.0, False)
    assert found["iou_after"] == [1.0] * 4
    flipped = toy_views(tmp_path / "flipped", "quadruped-01", TRUE_AZIMUTHS, mirror=True)
    found = json.loads(cli("align", flipped, "--gt", gt, "--json").out)["quadruped-01"]
    assert not found["aligned"]
    # seen without perspective at elevation 0, a flipped picture and the view from behind look alike
    assert "mirror" in found["signature"] or any("mirror" in rival for rival in found["rivals"])
    assert min(found["iou_after"]) > 0.99


def test_align_says_what_is_not_there(cli: Any, layout: Any, tmp_path: Path) -> None:
    pred, gt = layout(tmp_path / "pred", frames=1), layout(tmp_path / "gt", objects=("dog",), frames=1)
    for arguments, says in (
        (["--gt", gt], "no object cat; it has dog"),
        (["--gt", gt, "--objects", "cow"], "no object cow; it has cat"),
        (["--dataset", "toy4d"], "no toy4d scene 'cat'"),
    ):
        outcome = cli("align", pred, *arguments)
        assert outcome.code == 2
        assert says in outcome.err
    shutil.rmtree(pred / "cat" / "eval_2")
    outcome = cli("align", pred, "--gt", layout(tmp_path / "whole", frames=1))
    assert outcome.code == 2
    assert "eval_2" in outcome.err


# Readings and datasets


def test_ambiguity_prints_every_reading(cli: Any, layout: Any, tmp_path: Path) -> None:
    from mvtokenflow.eval.protocols import readings

    pred, gt = layout(tmp_path / "pred", frames=1, shift=1), layout(tmp_path / "gt", frames=1)
    arguments = ["ambiguity", pred, "--gt", gt, "--protocol", "c4d-v1", "--jobs", 1]
    document = json.loads(cli(*arguments, "--json").out)
    table = {reading["label"]: reading for reading in document["readings"]}
    assert list(table) == [label for label, _ in readings(PROTOCOLS["c4d-v1"])]
    own = table["psnr: range of each reference picture"]
    assert own["difference"] == 0
    crop, whole = table["ssim: automatic range, 5-px border dropped"], table["ssim: automatic range, whole map"]
    assert crop["difference"] == 0
    assert whole["difference"] == pytest.approx(whole["value"] - crop["value"])
    assert whole["difference"] != 0
    for label, reading in table.items():
        needs_weights = label.startswith(("lpips", "fvd"))
        assert (reading["value"] is None) == needs_weights
        assert (reading["reason"] is not None) == needs_weights
    assert list(tmp_path.glob("runs*")) == [], "nothing is recorded"
    assert "range 255" in cli(*arguments).out


def test_datasets_verify_finds_what_is_damaged(cli: Any, tiny: ModuleType, tmp_path: Path) -> None:
    shown = cli("datasets", "verify", "tinyscenes:Tiny", "--root", tmp_path / "data")
    assert shown.code == 0, shown.err
    assert "tinyscenes:Tiny: whole" in shown.out
    missing = cli("datasets", "verify", "consistent4d", "--json")
    assert missing.code == 2
    (instructions,) = json.loads(missing.out)
    assert "http" in instructions


@pytest.mark.slow  # generates a scene of the benchmark
def test_datasets_verify_hashes_the_toys(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Toy4D, "scene_names", lambda self: ("bird-01",))
    assert cli("datasets", "verify", "toy4d", "--root", tmp_path / "toys").code == 0
    (picture,) = tmp_path.glob("toys/*/bird-01/eval_2/7.png")
    pixels = np.array(Image.open(picture))
    pixels[0, 0] = 0
    Image.fromarray(pixels).save(picture)
    outcome = cli("datasets", "verify", "toy4d", "--root", tmp_path / "toys", "--json")
    assert outcome.code == 2
    (finding,) = json.loads(outcome.out)
    assert "the pixels on disk are not what was generated" in finding
