"""Files of ours that a disk, a copy or a stranger has damaged: one sentence, and little memory."""

import io
import json
import random
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mvtokenflow.base.damaged import (
    MAX_ARRAY_BYTES,
    Form,
    damage,
    parse_json,
    read_arrays,
    read_json,
    read_json_lines,
)
from mvtokenflow.base.errors import DataError, UserError
from mvtokenflow.base.tensor_files import read_checkpoint, read_tensors, write_checkpoint, write_tensors
from mvtokenflow.eval.gate.documents import load_document
from mvtokenflow.eval.records.rows import Manifest, row_log
from mvtokenflow.eval.records.summary import Summary
from mvtokenflow.method.pipeline import made_by
from mvtokenflow.splat.io import FORMAT, load_field
from mvtokenflow.views.folder import named_cameras
from mvtokenflow.workdir.cost import read_costs
from mvtokenflow.workdir.folder import claim, load_checkpoint, read_losses
from mvtokenflow.workdir.store import Entry

DEEP = b"[" * 200_000
NO_JSON = {
    "nothing": b"",
    "a bracket": b"{",
    "deep": DEEP,
    "deep objects": b'{"a":' * 100_000,
    "deep and closed": b"[" * 300 + b"]" * 300,
    "bytes": b"\xff\xfe\x00\x01\xff",
    "NaN": b'{"a": NaN}',
    "infinity": b'{"a": 1e999}',
    "many digits": b"1" * 10_000,
    "half a letter": rb'{"a": "\ud800"}',
    "zeros": b"\0" * 512,
}
OTHER_FORMS = {"a number": b"5", "null": b"null", "a text": b'"x"', "a list of objects": b"[{}]"}


@pytest.mark.parametrize("name", [*NO_JSON, *OTHER_FORMS])
def test_json_that_is_none_is_one_sentence_with_file_and_cure(name: str, tmp_path: Path) -> None:
    path = tmp_path / "notes.json"
    path.write_bytes({**NO_JSON, **OTHER_FORMS}[name])
    with pytest.raises(DataError, match=r"notes\.json: damaged \(.+\); delete it$") as error:
        read_json(path, dict, "delete it")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_json_that_is_whole_is_read(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None, True, "ä", "[[[[" * 30], "b": {"c": {"d": []}}}
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        assert parse_json(text) == value == parse_json(text.encode())
    assert parse_json(r'"\ud83d\ude00 \\ud800"') == "\U0001f600 \\ud800"


Reader = Callable[[Path], object]
READERS: dict[str, tuple[str, Reader]] = {
    "costs": ("stages.json", read_costs),
    "losses": ("losses.jsonl", read_losses),
    "a claim": ("run.json", lambda path: claim(path.parent, {"a": 1})),
    "who made the views": ("views.json", lambda path: made_by(path.parent)),
    "a shared stage's cost": ("cost.json", lambda path: Entry(path.parent).cost),
    "cameras": ("cameras.json", lambda path: named_cameras(str(path), 8)),
    "a manifest": ("manifest.json", Manifest.load),
    "a summary": ("metrics-toy4d-v2.json", lambda path: Summary.load(path.parent, "toy4d-v2")),
    "records": ("rows.jsonl", lambda path: row_log(path.parent).read()),
    "a baseline": ("baseline.json", lambda path: load_document(path, "baseline")),
}


@pytest.mark.parametrize("content", [*NO_JSON.values(), b"5", b"[5]", b'[{"step": 1}]', b'{"a": 1, "b": []}'])
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_of_json_names_its_file(reader: str, content: bytes, tmp_path: Path) -> None:
    name, read = READERS[reader]
    path = tmp_path / name
    path.write_bytes(content + b"\n")
    with pytest.raises(UserError) as error:
        read(path)
    assert str(tmp_path) in str(error.value)
    assert name in str(error.value) or (reader, content[:4]) == ("a claim", b'{"a"')
    assert "\n" not in str(error.value)


def test_a_flipped_byte_anywhere_in_the_costs_is_no_traceback(tmp_path: Path) -> None:
    cost = {"stage": "views", "seconds": 1.5, "peak_mib": 2.5, "finished": True}
    whole = json.dumps([cost, cost]).encode()
    path, draws, refused = tmp_path / "stages.json", random.Random(0), 0
    for _ in range(300):
        data = bytearray(whole)
        data[draws.randrange(len(data))] = draws.randrange(256)
        path.write_bytes(data)
        try:
            read_costs(path)
        except DataError as error:
            assert "delete it" in str(error)  # noqa: PT017 - most flips in a number are another number
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("line", [b"x", b"{}", b"\xff", b'{"step": "a", "gaussians": 3}', b"[" * 5000])
def test_a_damaged_line_is_named_by_its_number(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "losses.jsonl"
    path.write_bytes(b'{"step": 1, "gaussians": 5, "loss": NaN}\n' + line + b'\n{"step": 2, "gaus')
    with pytest.raises(DataError, match=r"losses\.jsonl: damaged in line 2 \(.*delete it"):
        read_losses(path)


def test_a_cut_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n{"a"')
    assert read_json_lines(path, "delete it") == [{"a": 1}, {"a": 2}]


def test_what_is_no_damage_is_not_called_so(tmp_path: Path) -> None:
    def fail(error: BaseException) -> None:
        with damage(tmp_path / "f", "damaged", "delete it"):
            raise error

    for error in (torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("can't allocate memory: 5")):
        with pytest.raises(type(error)):
            fail(error)
    with pytest.raises(KeyboardInterrupt):
        fail(KeyboardInterrupt())
    with pytest.raises(DataError, match="f: does not fit into memory"):
        fail(MemoryError())
    with pytest.raises(DataError, match=r"f: cannot be read \(Input/output error\); check its permissions"):
        fail(OSError(5, "Input/output error"))
    with pytest.raises(DataError, match=r"f: of another run$"):
        fail(DataError(f"{tmp_path / 'f'}: of another run"))
    with pytest.raises(DataError, match=r"f: damaged \(unknown setting\); delete it$"):
        fail(DataError("unknown setting"))


# ---- arrays ----

FORMS = {"view": Form("iu", ()), "flow": Form("f", (2, 8, 8, 2)), "visible": Form("biuf", (2, 8, 8))}
ARRAYS = {"view": np.array(3), "flow": np.ones((2, 8, 8, 2), np.float32), "visible": np.ones((2, 8, 8), bool)}


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _raw(head: bytes, version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(head))
    return b"\x93NUMPY" + bytes([version, 0]) + length + head


def _npz(path: Path, flow: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytearray:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, array in ARRAYS.items():
            archive.writestr(f"{name}.npy", flow if name == "flow" else _npy(array))
    return bytearray(path.read_bytes())


def _marked(data: bytearray, offsets: dict[bytes, int], value: int) -> bytearray:
    for sign, offset in offsets.items():
        at = 0
        while (at := data.find(sign, at)) >= 0:
            data[at + offset] = value
            at += 4
    return data


HEADERS = {
    "brackets": b"(" * 4000,
    "a quote": b'"""',
    "4 TB": b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }\n",
    "less than nothing": b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, -8, -8, 2), }\n",
    "objects": b"{'descr': '|O', 'fortran_order': False, 'shape': (2, 8, 8, 2), }\n",
    "long texts": b"{'descr': '<U99999999', 'fortran_order': False, 'shape': (2, 8, 8, 2), }\n",
    "fields": b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 8, 8, 2), }\n",
    "cut": _npy(ARRAYS["flow"])[10:-8],
    "a call": b"__import__('os').system('true')",
    "nothing": b"",
}


@pytest.mark.parametrize("name", HEADERS)
def test_arrays_with_a_bad_header_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "flow.npz"
    _npz(path, HEADERS[name] if name == "cut" else _raw(HEADERS[name]))
    with pytest.raises(DataError, match=r"flow\.npz: not a flow file \(.*flow.*\); write it again$"):
        read_arrays(path, FORMS, "write it again", "not a flow file")


def test_features_of_zip_that_numpy_does_not_write_are_refused(tmp_path: Path) -> None:
    path, whole = tmp_path / "flow.npz", _npy(ARRAYS["flow"])
    both = {b"PK\x03\x04": 8, b"PK\x01\x02": 10}
    files = {
        "encrypted": _marked(_npz(path, whole), {b"PK\x03\x04": 6, b"PK\x01\x02": 8}, 1),
        "method 99": _marked(_npz(path, whole), both, 99),
        "lzma": _npz(path, whole, zipfile.ZIP_LZMA),
        "bzip2": _npz(path, whole, zipfile.ZIP_BZIP2),
        "no zip": bytearray(whole),
        "cut": _npz(path, whole)[:-30],
        "empty": bytearray(),
        "another check sum": _marked(_npz(path, whole), {b"PK\x03\x04": 14, b"PK\x01\x02": 16}, 7),
        "behind the end": _npz(path, whole + b"more"),
        "a later header": _npz(path, _raw(b" " * 70000, version=2)),
    }
    for name, data in files.items():
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"flow\.npz: not a flow file \(.*\); write it again$"):
            read_arrays(path, FORMS, "write it again", "not a flow file")
        assert data is not None, name


def test_arrays_are_read_as_numpy_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "flow.npz"
    turned = np.asfortranarray(np.random.default_rng(0).random((2, 8, 8, 2)))
    for save in (np.savez, np.savez_compressed):
        save(path, view=ARRAYS["view"], flow=turned, visible=ARRAYS["visible"])
        found = read_arrays(path, FORMS, "write it again")
        for name, array in found.items():
            np.testing.assert_array_equal(array, {**ARRAYS, "flow": turned}[name])
            assert array.flags.writeable or array.ndim == 0
    np.savez(path, none=np.zeros((0, 3), np.float32), big=np.ones((3, 2), ">f4"))
    forms = {"none": Form("f", (None, 3)), "big": Form("f", (None, 2)), "more": Form("f", ())}
    found = read_arrays(path, forms, "write it again", optional=True, first=2)
    assert {name: array.shape for name, array in found.items()} == {"none": (0, 3), "big": (2, 2)}
    with pytest.raises(DataError, match=r"more\.npy"):
        read_arrays(path, forms, "write it again")


def _bomb(path: Path, shape: tuple[int, ...], megabytes: int) -> None:
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("view.npy", _npy(ARRAYS["view"]))
        archive.writestr("visible.npy", _npy(ARRAYS["visible"]))
        with archive.open("flow.npy", "w", force_zip64=True) as member:
            member.write(_raw(head))
            for _ in range(megabytes):
                member.write(bytes(2**20))


@pytest.mark.parametrize("form", [(2, 8, 8, 2), (None, None, None, 2)])
def test_a_small_file_that_unpacks_to_much_takes_no_memory(
    form: tuple[int | None, ...], tmp_path: Path
) -> None:
    path = tmp_path / "flow.npz"
    length = MAX_ARRAY_BYTES // (64 * 64 * 2 * 4) + 1
    _bomb(path, (length, 64, 64, 2), 8)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"flow is \(.*64, 64, 2\)"):
            read_arrays(path, {**FORMS, "flow": Form("f", form)}, "write it again")
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_of_a_long_array_only_the_first_entries_take_memory(tmp_path: Path) -> None:
    path = tmp_path / "flow.npz"
    _bomb(path, (100_000, 64, 64, 2), 1)
    found = read_arrays(path, {"flow": Form("f", (None, None, None, 2))}, "write it again", first=3)
    assert found["flow"].shape == (3, 64, 64, 2)


# ---- tensors ----


def test_a_checkpoint_with_flipped_bytes_is_no_traceback(tmp_path: Path) -> None:
    path, draws = tmp_path / "checkpoint.pt", random.Random(1)
    state = {"step": 3, "seconds": 1.0, "model": {"a": torch.ones(20)}, "optimizer": {"state": [1, "x"]}}
    write_checkpoint(path, state)
    whole, refused = path.read_bytes(), 0
    assert load_checkpoint(path, torch.device("cpu")) is not None
    for turn in range(250):
        data = bytearray(whole)
        for _ in range(3):
            data[draws.randrange(len(data))] = draws.randrange(256)
        path.write_bytes(data[: draws.randrange(len(data))] if turn % 3 == 0 else data)
        try:
            load_checkpoint(path, torch.device("cpu"))
        except DataError as error:
            assert "delete it to redo the stage" in str(error)  # noqa: PT017 - flips in padding harm nothing
            refused += 1
    assert refused > 150


@pytest.mark.parametrize(
    "settings", ["[]", "null", "5", '{"version": "2"}', '{"version": "2", "config": []}', "[" * 9999]
)
def test_a_field_with_other_settings_is_damaged(settings: str, tmp_path: Path) -> None:
    path = tmp_path / "field.safetensors"
    write_tensors(path, {"a": torch.zeros(1)}, {FORMAT: settings})
    with pytest.raises(DataError, match=r"field\.safetensors: the field is damaged \(.*\); delete it"):
        load_field(path)


def test_tensors_with_flipped_bytes_are_no_traceback(tmp_path: Path) -> None:
    path, draws = tmp_path / "t.safetensors", random.Random(2)
    write_tensors(path, {"a": torch.ones(3), "b": torch.ones(2, dtype=torch.float16)}, {"x": "{}"})
    whole, refused = path.read_bytes(), 0
    for _ in range(300):
        data = bytearray(whole)
        data[draws.randrange(len(data))] = draws.randrange(256)
        path.write_bytes(data)
        try:
            read_tensors(path, "damaged", "write it again")
        except DataError:
            refused += 1
    assert refused > 100
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"t\.safetensors: damaged"):
        read_tensors(path, "damaged", "write it again")


def test_an_archive_that_states_more_than_it_holds_takes_no_memory(tmp_path: Path) -> None:
    """One bit of a size in the archive's directory made torch ask for 4 GiB."""
    path = tmp_path / "checkpoint.pt"
    torch.save({"weight": torch.zeros(100)}, path)
    data = path.read_bytes()
    entry = data.rindex(b"PK\x01\x02", 0, data.rindex(b"data/0"))
    size = int.from_bytes(data[entry + 24 : entry + 28], "little")
    assert size == 400
    path.write_bytes(data[: entry + 24] + (0xFFFFFFF0).to_bytes(4, "little") + data[entry + 28 :])
    with pytest.raises(DataError, match=r"checkpoint\.pt: damaged checkpoint"):
        read_checkpoint(path, "cpu", "delete it")


def test_half_a_character_in_a_line_of_a_log_is_damage(tmp_path: Path) -> None:
    for line in (b'{"\\ud800": 1}', b'{"\xed\xa0\x80": 1}'):
        (tmp_path / "log.jsonl").write_bytes(line + b"\n")
        with pytest.raises(DataError, match=r"log\.jsonl: damaged in line 1"):
            read_json_lines(tmp_path / "log.jsonl", "delete it")
