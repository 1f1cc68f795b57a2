"""Published numbers side by side: the data, the command, the page, and `make arena` that measures the same."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from manifests import make_manifest

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.marked import markers, write_marked
from mvtokenflow.baselines.catalogue import method_named
from mvtokenflow.baselines.method import Setup
from mvtokenflow.baselines.names import METHODS, RIVALS, check_method_name, method_names
from mvtokenflow.baselines.published import ELSEWHERE, PUBLISHED, ROWS
from mvtokenflow.cli.mvtf_eval import app
from mvtokenflow.datasets.catalogue import open_dataset
from mvtokenflow.eval.protocols import PROTOCOLS
from mvtokenflow.eval.records.rows import Row, Stage, row_log
from mvtokenflow.eval.records.summary import Summary
from mvtokenflow.eval.tables.published import MARKED, TITLES, json_text, markdown_text
from mvtokenflow.eval.tables.render import Job, stages_folder
from mvtokenflow.eval.tables.specs import TABLES

ROOT = Path(__file__).resolve().parents[2]
Cli = Callable[..., Any]


# ---- the data ----


def test_every_number_is_one_with_a_source_and_printed_once() -> None:
    every = [*PUBLISHED, *ELSEWHERE]
    for number in every:
        assert re.fullmatch(r"\d*\.?\d+", number.printed), number
        assert re.fullmatch(r"\d{4}\.\d{5}", number.arxiv)
        assert re.fullmatch(r"table \d", number.where)
        assert number.protocol
        assert number.metric in TITLES
    cells = [(n.arxiv, n.where, n.method, n.metric) for n in every]
    assert len(set(cells)) == len(cells)


def test_numbers_of_other_papers_are_in_no_table_of_ours() -> None:
    assert {number.table for number in PUBLISHED} == set(TABLES)
    assert {number.table for number in ELSEWHERE} == {""}
    assert {(n.arxiv, n.where) for n in ELSEWHERE} == {("2407.17470", f"table {n}") for n in range(1, 5)}
    counts = {f"table {n}": sum(one.where == f"table {n}" for one in ELSEWHERE) for n in range(1, 5)}
    assert counts == {"table 1": 14, "table 2": 19, "table 3": 24, "table 4": 24}


def test_every_published_method_that_runs_here_has_its_label() -> None:
    assert set(RIVALS) <= set(ROWS.values()) <= set(METHODS)
    assert set(ROWS) <= {number.method for number in PUBLISHED}


# ---- the command ----


def test_the_page_is_what_the_command_prints() -> None:
    """With or without a last column of what was measured here."""
    begin, end = markers(MARKED)
    page = (ROOT / "docs" / "published.md").read_text().split(begin)[1].split(end)[0]
    written = page.split("### Measured here")[0].strip().splitlines()
    printed = markdown_text().strip().splitlines()
    assert len(written) == len(printed)
    for ours, theirs in zip(written, printed, strict=True):
        assert ours.startswith(theirs.removesuffix("|"))
        assert theirs.startswith("|") or ours == theirs


def test_json_holds_the_same_and_no_measured_number_without_runs(cli: Cli) -> None:
    done = cli("published", "--format", "json")
    found = json.loads(done.out)
    assert found == json.loads(json_text())
    assert found["measured"] is None
    printed = [
        (entry["method"], one["metric"], value["arxiv"], value["where"], value["printed"])
        for entry in found["methods"]
        for one in entry["quantities"]
        for value in one["published"]
    ]
    wanted = [(n.method, n.metric, n.arxiv, n.where, n.printed) for n in (*PUBLISHED, *ELSEWHERE)]
    assert sorted(printed) == sorted(wanted)
    assert {one["measured"] is None for entry in found["methods"] for one in entry["quantities"]} == {True}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Scored runs of SC4D on two scenes."""
    toys, protocol = open_dataset("toy4d"), PROTOCOLS["toy4d-v2"]
    root = tmp_path / "runs"
    for scene, value in (("crab-01", 0.25), ("fish-01", 0.75)):
        row = method_named("sc4d", Setup(store=stages_folder(root)))
        job = Job(dataset=toys, method=row, scene=scene, seed=0, root=root)
        rows = [
            Row(
                key=f"{scene}/{view}",
                object=scene,
                view=view,
                frame=0,
                metric="lpips",
                value=value + (view == "input"),
                signature="lpips|v:1",
            )
            for view in ("input", "eval_0")
        ]
        row_log(job.folder()).append(rows)
        keys = frozenset(one.key for one in rows)
        summary = Summary(
            protocol=protocol.name, keys=keys, measured=frozenset(), missing=(), findings=(), pedigree={}
        )
        summary.save(job.folder(), rows, protocol)
        make_manifest(
            dataset="toy4d",
            method="sc4d",
            scene=scene,
            config_hash=job.config_hash(),
            stages=(Stage(name="render", wall_s=90.0, peak_mib=1.0),),
        ).save(job.folder() / "manifest.json")
    return root


def test_what_was_measured_here_stands_beside_it_with_its_signature(cli: Cli, runs: Path) -> None:
    done = cli("published", "--runs", runs)
    assert done.code == 0, done.err
    section = done.out.split("### SC4D")[1].split("###")[0]
    assert "| LPIPS | novel views |  | 0.1659 |  | 0.5000 [0.2500, 0.7500] (2/2) |" in section
    assert "| LPIPS | input view | 0.08 |  |  | 1.5000 [1.2500, 1.7500] (2/2) |" in section
    assert "| PSNR | input view | 29.50 |  |  | – |" in section
    assert "| minutes | a scene |  |  | 30 | 1.50 [1.50, 1.50] (2/2) |" in section
    assert "- scenes: fish-01, crab-01" in done.out or "- scenes: crab-01, fish-01" in done.out
    assert "- LPIPS of novel views: `lpips|v:1|" in done.out
    assert "1.5000" not in done.out.split("### STAG4D")[1].split("###")[0]


def test_a_page_with_measured_numbers_has_one_more_column(cli: Cli, runs: Path, tmp_path: Path) -> None:
    page, (begin, end) = tmp_path / "page.md", markers(MARKED)
    page.write_text(f"# Title\n{begin}\nold\n{end}\nkept\n")
    assert cli("published", "--runs", runs, "--markdown", page).code == 0
    text = page.read_text()
    assert text.startswith("# Title\n")
    assert text.endswith(f"{end}\nkept\n")
    ours = text.split(begin)[1].split("### Measured here")[0].strip().splitlines()
    for line, plain in zip(ours, markdown_text().strip().splitlines(), strict=True):
        assert line.startswith(plain.removesuffix("|"))
    write_marked(page, MARKED, "new")
    assert page.read_text() == f"# Title\n{begin}\n\nnew\n{end}\nkept\n"


def test_a_folder_without_runs_and_a_wrong_form_are_refused(cli: Cli, tmp_path: Path) -> None:
    done = cli("published", "--runs", tmp_path)
    assert (done.code, "holds no finished run of toy4d" in done.err) == (2, True)
    assert cli("published", "--format", "csv").code == 2


# ---- make arena ----


def test_rivals_stand_for_all_published_methods() -> None:
    assert method_names("mvtokenflow,rivals,copy-input") == ["mvtokenflow", *RIVALS, "copy-input"]
    assert method_names("") == []
    with pytest.raises(ConfigError, match="copy-input"):
        check_method_name(method_names("copy-inputt")[0])


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_arena_names_every_table_and_one_grid_for_all() -> None:
    listed = subprocess.run(
        ["make", "-n", "-o", ".venv/.installed", "arena"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    lines = [shlex.split(line)[1:] for line in listed.splitlines() if "mvtf-eval" in line]
    assert [words[0] for words in lines] == ["table1", "table2", "table4", "report"]
    grids = set()
    for verb, *words in lines:
        command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]  # it is a group
        given = command.make_context(verb, words).params
        grids.add((tuple(method_names(given["methods"])), given["scenes"]))
        assert verb != "report" or given["tables"] == "table1,table2,table4"
    ((methods, scenes),) = grids
    assert methods == ("mvtokenflow", *RIVALS)
    assert len(scenes.split(",")) == 2
