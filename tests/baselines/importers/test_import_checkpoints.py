"""Foreign checkpoints: tensors as torch reads them, and nothing else in the file is run."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from official import drawn, marker, write_columns, write_ply

from mvtokenflow.base.errors import DataError
from mvtokenflow.baselines.importers.checkpoints import read_state
from mvtokenflow.baselines.importers.plies import is_gaussians, read_columns, read_gaussians

RAN: list[str] = []


class Harmful:
    """Runs a function of this module when it is unpickled."""

    def __reduce__(self) -> Any:
        return RAN.append, ("ran",)


def test_tensors_are_those_of_torch(tmp_path: Path) -> None:
    whole = drawn((4, 6), 0)
    layer = torch.nn.Linear(3, 2)
    state = {
        "plain": whole,
        "part": whole[1:, ::2].T,
        "half": whole.half(),
        "bfloat": whole.bfloat16(),
        "double": whole.double(),
        "whole numbers": torch.arange(5),
        "truth": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
        "number": torch.tensor(2.5),
        "parameter": torch.nn.Parameter(whole),
        **layer.state_dict(),
    }
    torch.save(state, tmp_path / "x.pth")
    found = read_state(tmp_path / "x.pth")
    assert set(found) == set(state)
    for name, value in state.items():
        wanted = value.detach().float() if value.is_floating_point() else value
        torch.testing.assert_close(found[name], wanted, rtol=0, atol=0)
    torch.save({"state_dict": layer.state_dict(), "lr": 0.1}, tmp_path / "y.ckpt")
    assert set(read_state(tmp_path / "y.ckpt", "state_dict")) == {"weight", "bias"}
    torch.save(layer.state_dict(), tmp_path / "z.pth")  # an OrderedDict with the versions of modules
    assert set(read_state(tmp_path / "z.pth")) == {"weight", "bias"}


def test_nothing_is_run_and_what_is_named_is_said(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"weight": torch.ones(2), "more": Harmful()}, path)
    RAN.clear()
    with pytest.raises(
        DataError, match=r"x.pth: refused.*it names builtins.getattr, which is no part of a tensor"
    ):
        read_state(path)
    assert RAN == []
    torch.save({"weight": torch.ones(2), "more": Path}, path)
    assert set(read_state(path)) == {"weight"}, "settings become empty stand-ins"
    path.write_bytes(pickle.dumps({"weight": [1.0]}))
    with pytest.raises(DataError, match="refused"):
        read_state(path)
    torch.save({"weight": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(DataError, match="refused"):
        read_state(path)


def rewritten(path: Path, change: Any) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {info.filename: archive.read(info) for info in archive.infolist()}
    change(parts)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


def test_damaged_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"weight": drawn((40, 3), 0)}, path)
    whole = path.read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"x\.pth"):
            read_state(path)
    path.write_bytes(whole)
    rewritten(path, lambda parts: parts.update({"x/data/0": parts["x/data/0"][:-4]}))
    with pytest.raises(DataError, match="a storage of 476 bytes, 480 are stated"):
        read_state(path)
    path.write_bytes(whole)
    rewritten(path, lambda parts: parts.update({"x/byteorder": b"big"}))
    with pytest.raises(DataError, match="not little endian"):
        read_state(path)
    torch.save({"weight": torch.tensor([1.0, float("nan")])}, path)
    with pytest.raises(DataError, match="weight holds NaN"):
        read_state(path)
    torch.save({"lr": 1}, path)
    with pytest.raises(DataError, match="no tensors"):
        read_state(path)
    with pytest.raises(DataError, match="no entry state_dict"):
        read_state(path, "state_dict")
    with pytest.raises(DataError, match="no such file"):
        read_state(tmp_path / "gone.pth")


def test_a_tensor_outside_of_its_storage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"weight": torch.zeros(4)[1:]}, path)

    def shift(parts: dict[str, bytes]) -> None:
        data = parts["x/data.pkl"]
        assert data.count(b"K\x01K\x03\x85") == 1  # offset 1, shape (3,)
        parts["x/data.pkl"] = data.replace(b"K\x01K\x03\x85", b"K\x02K\x03\x85")

    rewritten(path, shift)
    with pytest.raises(DataError, match=r"a tensor of shape \(3,\) outside of its storage"):
        read_state(path)


def test_ply_files(tmp_path: Path) -> None:
    path = write_ply(tmp_path / "x.ply", marker(), normals=False)
    assert is_gaussians(path)
    assert len(read_gaussians(path)) == 4
    columns = read_columns(path, ("rot_0", "x"))
    assert columns[:, 0].tolist() == [2.0] * 4
    assert columns[0, 1] == 0.5
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=f"x.ply: cut off, {len(whole) - 1} of {len(whole)} bytes"):
        read_gaussians(path)
    path.write_bytes(b"solid")
    with pytest.raises(DataError, match=r"x.ply: no .ply header in its 5 bytes"):
        read_gaussians(path)
    write_columns(path, [("x", marker()["means"][:, 0]), ("y", marker()["means"][:, 0])])
    assert not is_gaussians(path)
    with pytest.raises(DataError, match="lacks the columns c_x"):
        read_columns(path, ("x", "c_x"))
    write_columns(path, [("x", marker()["means"][:0, 0])])
    with pytest.raises(DataError, match="holds no Gaussian"):
        read_columns(path, ("x",))
