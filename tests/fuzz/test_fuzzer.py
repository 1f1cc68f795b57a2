"""The fuzzer itself: damage repeats and stays damage of the kind meant; every way to fail is seen."""

import io
import json
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from random import Random

import faults
import formats
import mutators
import numpy as np
import pytest
import valid
from worker import Reader, outcomes

from mvtokenflow.media.pictures import write_png


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (faults.breaks, "KeyError"),
        (faults.dies, "the process died (-11)"),
        (faults.spins, "more than 1 s"),
        (faults.eats, "MemoryError"),
        (faults.says_nothing, "the sentence names no file: something is wrong"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_fault_is_a_failure_and_the_next_input_is_read(read: object, words: str, tmp_path: Path) -> None:
    reader = Reader(name="own", file="a.json", make=faults.make, read=read)  # type: ignore[arg-type]
    found = list(outcomes(reader, [0, 1, 2], tmp_path, seconds=1.0))
    assert [one.number for one in found] == [0, 1, 2]
    assert [one.kind for one in found] == ["accepted", "failed", "failed"]
    assert all(words in one.words for one in found[1:])


def test_a_reader_that_refuses_its_valid_file_is_a_failure(tmp_path: Path) -> None:
    reader = Reader(name="own", file="a.json", make=faults.make, read=faults.refuses)
    found = list(outcomes(reader, [0, 1], tmp_path))
    assert [one.kind for one in found] == ["failed", "refused"]
    assert "the valid file is refused" in found[0].words


def test_numbers_give_the_same_input_again(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(faults.TEXT)
    reader = Reader(name="own", file="*.json", make=faults.make, read=faults.refuses)
    inputs = [reader.damaged(tmp_path, number) for number in range(20)]
    assert inputs == [reader.damaged(tmp_path, number) for number in range(20)]
    assert inputs[0] == (Path("a.json"), faults.TEXT)
    assert len({data for _, data in inputs}) > 15


def _inputs(mutate: mutators.Mutator, data: bytes) -> list[bytes]:
    return [mutate(data, Random(n)) for n in range(100)]


def test_chunks_of_a_png_are_spoilt_under_right_checksums(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", valid.ball(0))
    data = (tmp_path / "a.png").read_bytes()
    for spoilt in _inputs(formats.png_chunk, data):
        at = 8
        while at < len(spoilt):
            end = at + 12 + int.from_bytes(spoilt[at : at + 4])
            assert zlib.crc32(spoilt[at + 4 : end - 4]) == int.from_bytes(spoilt[end - 4 : end])
            at = end


def test_json_stays_json_and_lines_stay_lines() -> None:
    spoilt = _inputs(mutators.json_value, faults.TEXT)
    parsed = [json.loads(text) for text in spoilt if not text.startswith((b"[[", b'{"a":{"a"'))]
    assert len(parsed) > 80
    assert sum(value == json.loads(faults.TEXT) for value in parsed) < 15
    assert len(parsed) < len(spoilt)  # the others are nested without end
    assert all(len(text.splitlines()) >= 3 for text in _inputs(mutators.json_lines, faults.TEXT * 3))


def test_archives_open_and_hold_other_things(tmp_path: Path) -> None:
    packed = io.BytesIO()
    np.savez(packed, flow=np.zeros((2, 3, 4), np.float32), view=np.array(0))
    names = [
        zipfile.ZipFile(io.BytesIO(data)).testzip() for data in _inputs(formats.zip_member, packed.getvalue())
    ]
    assert set(names) == {None}  # all sums are right
    archives = [zipfile.ZipFile(io.BytesIO(data)) for data in _inputs(formats.zip_flags, packed.getvalue())]
    assert any(member.flag_bits & 1 for archive in archives for member in archive.infolist())  # encrypted


def test_the_header_of_safetensors_has_the_length_it_says() -> None:
    header = json.dumps(
        {"__metadata__": {"facts": "{}"}, "x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    )
    data = struct.pack("<Q", len(header)) + header.encode() + bytes(8)
    for spoilt in _inputs(formats.safetensors_header, data):
        length = int.from_bytes(spoilt[:8], "little")
        assert spoilt[8 + length :] == bytes(8)


def test_headers_of_tar_have_right_checksums() -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        info = tarfile.TarInfo("a")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    for spoilt in _inputs(formats.tar_header, packed.getvalue()):
        block = spoilt[:512]
        stated = int(block[148:154], 8)
        assert sum(block[:148] + b" " * 8 + block[156:]) == stated


def test_boxes_of_a_video_are_found(tmp_path: Path) -> None:
    valid.video(tmp_path / "a.mp4", "libx264", "yuv420p")
    data = (tmp_path / "a.mp4").read_bytes()
    names = [data[start + 4 : start + 8] for start, _ in formats._boxes(data, 0, len(data))]
    assert {b"ftyp", b"moov", b"trak", b"stsd", b"stts", b"avc1"} <= set(names)
    assert len({len(spoilt) for spoilt in _inputs(formats.mp4_box, data)}) > 5


def test_an_input_waits_for_its_turn_and_is_not_charged_for_it(tmp_path: Path) -> None:
    """Seconds are of computing: a machine that is busy with other things fails nobody."""
    reader = Reader(name="own", file="a.json", make=faults.make, read=faults.sleeps)
    (found,) = outcomes(reader, [0], tmp_path)
    assert found.kind == "accepted"
    assert found.seconds < 0.2
