"""Options of both command lines: one name for one thing, former names, examples, devices, early checks."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from mvtokenflow.base.device import described_device, resolve_device
from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.options import grouped
from mvtokenflow.base.terminal import chosen_device
from mvtokenflow.cli.eval.common import JOBS_PER_CORE, check_jobs
from mvtokenflow.cli.mvtf import app as method_app
from mvtokenflow.cli.mvtf_eval import app as harness_app
from mvtokenflow.eval.tables.specs import TABLES
from mvtokenflow.method.config import mini, overridden

PROGRAMS: dict[str, Any] = {
    "mvtf": typer.main.get_command(method_app),
    "mvtf-eval": typer.main.get_command(harness_app),
}
Cli = Callable[..., Any]


def _verbs() -> Iterator[tuple[str, Any]]:
    for program, group in PROGRAMS.items():
        for name, command in group.commands.items():
            inner = getattr(command, "commands", None) or {}
            yield from (
                [(f"{program} {name} {sub}", one) for sub, one in inner.items()]
                or [(f"{program} {name}", command)]
            )


VERBS = dict(_verbs())


def _options(verb: str) -> dict[str, Any]:
    return {name: p for p in VERBS[verb].params for name in (*p.opts, *p.secondary_opts)}


# ---- one name for one thing ----


def test_results_go_to_out_everywhere() -> None:
    having = [verb for verb in VERBS if "--out" in _options(verb)]
    assert {"mvtf run", "mvtf render", "mvtf reconstruct", "mvtf-eval report"} <= set(having)
    for verb in VERBS:
        assert "--output" not in _options(verb)
        if {"-o", "--out"} & set(_options(verb)):
            assert _options(verb)["-o"] is _options(verb)["--out"], verb


def test_one_option_has_one_kind_of_value_everywhere() -> None:
    kinds: dict[str, dict[str, str]] = {}
    for verb in VERBS:
        for name, parameter in _options(verb).items():
            if name.startswith("--"):
                kind = f"{parameter.bare_type}{' many' * parameter.multiple}"
                kinds.setdefault(name, {})[verb] = kind
    for name, found in kinds.items():
        assert len(set(found.values())) == 1, (name, found)


def test_the_device_is_found_by_default_everywhere() -> None:
    having = [verb for verb in VERBS if "--device" in _options(verb)]
    assert len(having) > 10
    for verb in having:
        assert _options(verb)["--device"].default == "auto", verb


@pytest.mark.parametrize(
    ("former", "present"),
    [
        ("run c.webm --output o --export-size 64", "run c.webm --out o --size 64"),
        ("export f.safetensors --output=o --ply", "export f.safetensors -o o --ply"),
        ("render f.safetensors --output o.png", "render f.safetensors --out o.png"),
        ("reconstruct v --size 64 -o o", "reconstruct v --fit-size 64 -o o"),
    ],
)
def test_former_names_are_taken_and_not_listed(
    former: str, present: str, capsys: pytest.CaptureFixture[str]
) -> None:
    verb, *words = shlex.split(former)
    command = VERBS[f"mvtf {verb}"]
    taken = command.make_context(verb, list(words)).params
    said = capsys.readouterr().err
    assert taken == command.make_context(verb, shlex.split(present)[1:]).params
    assert capsys.readouterr().err == ""
    for word in {word.partition("=")[0] for word in words if word.startswith("--")} - {"--out", "--ply"}:
        assert f"{word} is called --" in said
        assert word not in _options(f"mvtf {verb}")


def test_every_table_says_what_it_shows(cli: Cli) -> None:
    listed = cli("--help").out
    for name, spec in TABLES.items():
        assert cli(name, "--help").out.split("\n\n")[1].strip().replace("\n  ", " ") == f"{spec.title}."
        assert f"{name}     {spec.title[:30]}" in listed
    assert len({spec.title for spec in TABLES.values()}) == len(TABLES)


def test_tables_and_ablate_share_their_options() -> None:
    table, ablate = (set(_options(f"mvtf-eval {verb}")) for verb in ("table1", "ablate"))
    assert table - ablate == {"--methods", "--import"}
    assert ablate - table == {"--drop"}


def test_a_group_of_options_stands_for_its_fields() -> None:
    @dataclass(frozen=True)
    class Group:
        size: Annotated[int, typer.Option("--size", help="A size.")] = 3
        name: Annotated[str, typer.Option(help="A name.")] = "x"

    seen: list[Any] = []

    @grouped(Group)
    def command(word: str, options: Group, own: Annotated[int, typer.Option()] = 1) -> None:
        seen.append((word, options, own))

    app = typer.Typer()
    app.command()(command)
    made: Any = typer.main.get_command(app)
    made.main(["w", "--size", "5"], standalone_mode=False)
    made.main(["w", "--own", "2", "--name", "y"], standalone_mode=False)
    assert seen == [("w", Group(size=5), 1), ("w", Group(name="y"), 2)]


def test_views_are_generated_every_so_often_by_a_name_of_its_own() -> None:
    config = overridden(mini(), ["generate_every=3"])
    assert config == overridden(mini(), ["stride=3"])
    assert config.to_dict()["stride"] == 3, "records keep the name of the field"
    assert "generate_every" not in config.to_dict()
    with pytest.raises(ConfigError, match="generate_every is 0; expected 1 or more"):
        overridden(mini(), ["generate_every=0"])


# ---- devices and processes ----


@pytest.mark.parametrize(("here", "device"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_the_gpu_if_there_is_one_and_is_said(
    here: bool, device: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: here)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "Some GPU")
    assert resolve_device("auto") == device
    assert chosen_device("auto") == device
    assert capsys.readouterr().err == f"device: {described_device(device)}\n"
    assert described_device("cuda") == "cuda (Some GPU)"
    assert resolve_device("cuda:1") == "cuda:1"
    assert chosen_device("cpu") == "cpu"
    assert capsys.readouterr().err == "", "what was asked for needs no words"


def test_no_more_processes_than_a_machine_can_hold(cli: Cli, tmp_path: Path) -> None:
    most = JOBS_PER_CORE * len(os.sched_getaffinity(0))
    check_jobs(None)
    check_jobs(most)
    done = cli("table1", "--jobs", most + 1, "--runs", tmp_path / "runs")
    assert done.code == 2
    assert f"--jobs {most + 1}: at most {most} on this machine" in done.err
    assert not (tmp_path / "runs").exists()


# ---- before torch is imported ----

MISSING = {
    "mvtf run missing.mp4 -o out": "missing.mp4: no such file or folder; give a video",
    "mvtf run https://example.org/a.mp4 -o out": "https://example.org/a.mp4: an address; nothing is downloaded",
    "mvtf run {here} --mask missing.mp4 -o out": "missing.mp4: no such file or folder; give --mask",
    "mvtf run {here} -o out --preset tiny": "no preset 'tiny'",
    "mvtf run {here} -o out --set strid=1": "Did you mean 'stride'?",
    "mvtf run {here} -o out --without flo": "Did you mean 'flow'?",
    "mvtf reconstruct missing -o out": "missing: no such file or folder; give a folder of views",
    "mvtf reconstruct {here} --cameras missing.json -o out": "missing.json: no such file",
    "mvtf reconstruct {here} -o out --preset tiny": "no preset 'tiny'",
    "mvtf export missing.safetensors -o out --ply": "give the field.safetensors of an `mvtf run`",
    "mvtf render missing.safetensors -o out": "give the field.safetensors of an `mvtf run`",
    "mvtf train-prior -o out --config missing.toml": "missing.toml: no such file",
    "mvtf train-clip -o out --minutes 0": "--minutes 0.0: must be positive",
    "mvtf gate-prior missing.safetensors": "missing.safetensors: no such file",
    "mvtf-eval score missing --gt {here}": "missing: no such file or folder; expected <object>/eval_<i>/",
    "mvtf-eval score {here} --gt missing": "missing: no such file or folder; expected <object>/eval_<i>/",
    "mvtf-eval score {here} --gt {here} --protocol c4d": "no protocol 'c4d'",
    "mvtf-eval score {here} --gt {here} --weights lpips-vgg=missing": "missing: no such file or folder; give",
    "mvtf-eval score {here} --gt {here} --clip missing": "missing: no such file or folder; give --weights clip",
    "mvtf-eval table2 --weights lpips-vgg=missing": "missing: no such file or folder; give --weights lpips-vgg",
    "mvtf-eval ambiguity missing --gt {here}": "missing: no such file",
    "mvtf-eval align missing --gt {here}": "missing: no such file",
    "mvtf-eval table2 --import mine=missing": "missing: no such file or folder; give --import mine",
    "mvtf-eval table1 --format word": "no table format 'word'",
    "mvtf-eval table1 --protocol toy4d": "no protocol 'toy4d'",
    "mvtf-eval table1 --dataset toy4": "Did you mean 'toy4d'?",
    "mvtf-eval table1 --dataset ./missing": "missing: no such file or folder; give a folder of frames",
    "mvtf-eval table1 --methods whit": "Did you mean 'white'?",
    "mvtf-eval table3 --methods no-flow+nrmal": "Did you mean 'normal'?",
    "mvtf-eval explain table1 whit lpips": "Did you mean 'white'?",
    "mvtf-eval claims --dataset toy4": "Did you mean 'toy4d'?",
    "mvtf-eval report --dataset toy4": "Did you mean 'toy4d'?",
    "mvtf-eval ablate --drop flo": "Did you mean 'flow'?",
    "mvtf-eval regress --against missing.json": "missing.json: no such file or folder; give --against",
    "mvtf-eval values missing": "missing: no such file or folder; name the folder of runs",
    "mvtf-eval audit missing": "missing: no such file or folder; name the folder of runs",
    "mvtf-eval weights unpack missing.tar": "missing.tar: no such file or folder",
}
PROGRAM = """
import contextlib, io, json, shlex, sys, time
from mvtokenflow.cli import mvtf, mvtf_eval
found = {}
for line in json.load(sys.stdin):
    program, *words = shlex.split(line)
    sys.argv, began, printed = [program, *words], time.process_time(), io.StringIO()
    code = 0
    with contextlib.redirect_stderr(printed):
        try:
            (mvtf if program == "mvtf" else mvtf_eval).main()
        except SystemExit as end:
            code = end.code
    heavy = [name for name in ("torch", "diffusers", "numba") if name in sys.modules]
    found[line] = [code, printed.getvalue(), heavy, time.process_time() - began]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Every command of `MISSING` in one fresh process: exit code, stderr, heavy modules so far, CPU seconds."""
    folder = tmp_path_factory.mktemp("refused")
    (folder / "here").mkdir()
    lines = {line.format(here="here"): line for line in MISSING}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(list(lines)),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in folder.iterdir()] == ["here"], "nothing was written"
    return {lines[line]: found for line, found in json.loads(done.stdout).items()}


@pytest.mark.parametrize("line", MISSING)
def test_what_is_not_there_is_said_before_torch_is_imported(refused: Any, line: str) -> None:
    code, said, heavy, seconds = refused[line]
    assert code == (4 if " regress " in line else 2)
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert MISSING[line] in said
    assert not heavy
    assert seconds < 1


# ---- examples of the help ----


def _examples(verb: str) -> list[str]:
    text = " ".join(str(VERBS[verb].help).split())
    return re.findall(rf"Example: ({verb.split()[0]} .*?)(?=$|Example:)", text)


def _parsed(line: str) -> dict[str, Any]:
    words = shlex.split(line)
    count = next(n for n in (3, 2) if " ".join(words[:n]) in VERBS)
    parsed: dict[str, Any] = VERBS[" ".join(words[:count])].make_context(words[1], words[count:]).params
    return parsed


def _written() -> set[Path]:
    """Files that the examples of commands write, by the names that the code gives them."""
    from mvtokenflow.small.training.sittings import PriorRun
    from mvtokenflow.splat.trainer import FIELD_FILE

    found = set()
    for verb in ("mvtf run", "mvtf reconstruct"):
        found |= {_parsed(line)["out"] / FIELD_FILE for line in _examples(verb)}
    for line in _examples("mvtf train-prior"):
        out = _parsed(line)["out"]
        run = object.__new__(PriorRun)
        vars(run).update(out=out, cooldown=None)
        found |= {run.checkpoint, run.weights}
    return found


@pytest.mark.parametrize("verb", ["mvtf export", "mvtf render", "mvtf gate-prior"])
def test_examples_name_files_that_other_examples_write(verb: str) -> None:
    (line,) = _examples(verb)
    given = _parsed(line)
    assert (given.get("field_file") or given["weights"]) in _written()


def test_examples_of_the_harness_name_what_is_there() -> None:
    (line,) = _examples("mvtf-eval regress")
    assert (Path(__file__).resolve().parents[2] / _parsed(line)["against"]).is_file()
    for verb in ("mvtf-eval report", "mvtf-eval claims", "mvtf-eval values", "mvtf-eval audit"):
        for line in _examples(verb):
            assert _parsed(line)["runs"] == Path("runs"), "where tables put them"
    (packed,) = _examples("mvtf-eval weights pack")
    (unpacked,) = _examples("mvtf-eval weights unpack")
    assert _parsed(packed)["archive"] == _parsed(unpacked)["archive"]
