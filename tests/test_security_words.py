"""Words of a command line, and what a baseline may name: a sentence for what is wrong, and nothing called."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from mvtokenflow.base.errors import ConfigError, DataError, WeightsCorruptError
from mvtokenflow.base.names import brief, name_fault, printable
from mvtokenflow.eval.gate.recipe import Recipe
from mvtokenflow.eval.tables.words import seeds_named, shard_named
from mvtokenflow.splat import training_config
from mvtokenflow.weights import archive as archives

LONG = "9" * 5000


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            " ",
            ".",
            "..",
            "a/b",
            "/a",
            "../a",
            "a\\b",
            "..\\a",
            "C:",
            "c:a",
            "a\0",
            "a\nb",
            "\x1b[31m",
            "\x9b",
        ),
        *("a\u202eb", "\u2028", "\udcff", "a" * 201, "ä" * 101, None, 5, True, ["a"]),
    ],
)
def test_what_is_no_name_of_a_folder(name: object) -> None:
    assert name_fault(name)


@pytest.mark.parametrize(
    "name", ["eval_0", "my cat", "猫", "a..b", "...", "-", "ab:c", "é" * 100, ".x", "=1+1", "[red]"]
)
def test_what_is_a_name(name: str) -> None:
    assert name_fault(name) is None


def test_a_terminal_gets_no_control_characters() -> None:
    assert printable("a\x1b[31mb\r\n\tc\x9b\u202e\udcff") == "a\\x1b[31mb\\x0d\n\tc\\x9b\\u202e\\udcff"
    assert brief("a\nb") == "a\\x0ab"
    assert len(brief(LONG)) < 100


@pytest.mark.parametrize(
    "text", ["²/3", "0/²", f"0/{LONG}", f"{LONG}/1", "1/1", "-0/1", "+0/1", "0/", "/1", "0", "٣/4", ""]
)
def test_words_that_are_no_shard(text: str) -> None:
    with pytest.raises(ConfigError, match="--shard"):
        shard_named(text)


def test_shards() -> None:
    assert shard_named("2/3") == (2, 3)


@pytest.mark.parametrize("text", ["²", "٣", LONG, "0,,1", "-1", "1_0", ",".join(map(str, range(1001)))])
def test_words_that_are_no_seeds(text: str) -> None:
    with pytest.raises(ConfigError, match="--seeds") as told:
        seeds_named(text)
    assert len(str(told.value)) < 300


@pytest.mark.parametrize(
    ("option", "word"),
    [
        *(
            ("--methods", word)
            for word in ("..:x", ".a:x", "a b:x", ":x", "os:", "os:path", "json:JSONDecoder", "os:sep")
        ),
        *(
            ("--dataset", word)
            for word in ("os:sep", "sys:exit", "os:getcwd", "builtins:int", "..:x", LONG, "\x1b[31m")
        ),
        ("--dataset", "datetime:datetime"),
        ("--dataset", "broken_module:Data"),
        ("--dataset", "leaving_module:Data"),
        ("--dataset", "odd_names:Data"),
        ("--dataset", "odd_names:Scenes"),
        ("--methods", "odd_names:ROW"),
        ("--methods", "odd_names:NO_FUNCTION"),
        ("--methods", "odd_names:NO_SOURCE"),
        *(("--import", word) for word in ("..=x", "a/b=x", "=x", "a", "\x1b=x", f"{LONG}=x")),
        *(("--jobs", word) for word in ("²", "0", LONG)),
        *(("--protocol", word) for word in ("²", LONG)),
        *(("--scenes", word) for word in ("²", LONG, "../ant")),
        ("--seeds", "²"),
        ("--shard", "²/3"),
        ("--preset", "\x1b[2J"),
    ],
)
def test_wrong_words_are_told_in_one_sentence(
    option: str, word: str, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_module.py").write_text("1 / 0")
    (tmp_path / "leaving_module.py").write_text("import sys\nsys.exit(0)")
    (tmp_path / "odd_names.py").write_text(ODD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    ended = cli("table1", option, word, "--runs", tmp_path / "runs")
    assert ended.code == 2
    assert len(ended.err) < 900
    assert "Traceback" not in ended.err
    assert not any(ord(sign) < 32 and sign not in "\n\t" for sign in ended.err)
    assert not (tmp_path / "runs").exists()


ODD = """
from types import SimpleNamespace as Row
whole = dict(uses_truth=False, source="native", config=dict, weights=list, render=print)
ROW = Row(name="../x", **whole)
NO_FUNCTION = Row(name="x", **{**whole, "config": 5})
NO_SOURCE = Row(name="x", **{**whole, "source": "elsewhere"})
class Data:
    name, scene_names, scene = "../x", list, str
class Scenes:
    name, scene = "x", str
    def scene_names(self):
        return ["good", "../bad"]
"""


@pytest.mark.parametrize(
    "value", ["²", "１２", LONG, "1_0", "1e999", "nan", "99999999999999999999", "", "0x10"]
)
def test_settings_take_plain_numbers(value: str) -> None:
    from mvtokenflow.base.settings import overridden

    with pytest.raises(ConfigError, match=r"points is|field\.depth|expected"):
        overridden(training_config.mini(), [f"points={value}"])


# ---- baselines ----

RECIPE = {"dataset": "toy4d", "methods": "white", "scenes": "crab-01"}


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "sys:exit"},
        {"dataset": "os:abort"},
        {"dataset": "evil:Data"},
        {"dataset": "./clips"},
        {"dataset": "/etc"},
        {"dataset": ".."},
        {"methods": "evil:ROW"},
        {"methods": "white,evil:ROW"},
        {"methods": "no-a+b:c"},
        {"methods": ""},
        {"protocol": "evil:ROW"},
    ],
)
def test_a_baseline_names_neither_code_nor_files(
    change: dict[str, str], cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'called')!r}, 'w')\nROW = Data = None")
    monkeypatch.syspath_prepend(tmp_path)
    path = _baseline(tmp_path, RECIPE | change)
    ended = cli("regress", "--against", path, "--runs", tmp_path / "runs")
    assert ended.code == 4
    assert str(path) in ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "called").exists()
    assert not (tmp_path / "runs").exists()


def test_a_trusted_baseline_names_code_and_never_ends_well_by_it(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code that leaves with exit code 0 has not measured anything."""
    (tmp_path / "leaver.py").write_text("import sys\nclass Data:\n    def __init__(self): sys.exit(0)")
    monkeypatch.syspath_prepend(tmp_path)
    path = _baseline(tmp_path, RECIPE | {"dataset": "leaver:Data"})
    assert cli("regress", "--against", path, "--runs", tmp_path / "runs", "--trust-baseline").code == 4


def test_recipes_of_the_catalogues_need_no_trust(tmp_path: Path) -> None:
    recipe = RECIPE | {"methods": "white,mvtokenflow,no-flow+normal,true-views"}
    assert Recipe.of({"recipe": recipe}, tmp_path).methods == recipe["methods"]
    with pytest.raises(DataError, match="--trust-baseline"):
        Recipe.of({"recipe": RECIPE | {"dataset": "mine:Data"}}, tmp_path)
    assert (
        Recipe.of({"recipe": RECIPE | {"dataset": "mine:Data"}}, tmp_path, trusted=True).dataset == "mine:Data"
    )


def _baseline(folder: Path, recipe: dict[str, str]) -> Path:
    cell = {"method": "white", "metric": "psnr", "object": None, "value": 1.0, "tolerance": 0.1}
    cells = [{**cell, "signature": "psnr|v:1", "better": "higher"}]
    path = folder / "baseline.json"
    path.write_text(json.dumps({"schema": 1, "kind": "baseline", "cells": cells, "recipe": recipe}))
    return path


# ---- archives ----


@pytest.mark.parametrize(
    "headers",
    [
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "5"},
        {"GNU.sparse.map": "a,b,c"},
        {"GNU.sparse.size": "zz", "GNU.sparse.offset": "1"},
        {"GNU.sparse.size": "5", "GNU.sparse.map": "0,99999999999999999999"},
        {"size": "-512"},
        {"size": "9" * 30},
        {"size": "x"},
        {"path": "../../evil"},
        {"path": "mvtf-weights/lpips-vgg.safetensors\0x"},
        {"mtime": "x"},
        {"linkpath": "/etc/passwd"},
    ],
)
def test_archives_with_wrong_headers(headers: dict[str, str], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "weights"))
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("mvtf-weights/lpips-vgg.safetensors")
        data = b"abc\n1\n"
        member.size, member.pax_headers = len(data), headers
        archive.addfile(member, io.BytesIO(data))
    with pytest.raises(WeightsCorruptError, match=str(path)):
        archives.unpack(path)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_an_archive_of_headers_of_headers(tmp_path: Path) -> None:
    """Each long name announces another one: tarfile follows them by recursion."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 0
    (tmp_path / "a.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) * 5000)
    with pytest.raises(WeightsCorruptError, match="not an archive"):
        archives.unpack(tmp_path / "a.tar")
