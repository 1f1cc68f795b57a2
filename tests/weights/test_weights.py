"""The ledger: found, missing, corrupt, fetched, packed; nothing is ever downloaded without being asked for."""

import hashlib
import io
import json
import socket
import tarfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mvtokenflow.base.errors import ConfigError, UserError, WeightsCorruptError, WeightsMissingError
from mvtokenflow.weights import archive as archives
from mvtokenflow.weights import ledger as weights
from mvtokenflow.weights.convert import (
    ALEX_CONVOLUTIONS,
    convert,
    i3d_from_flax,
    lpips_from_flax,
    serialize,
)
from mvtokenflow.weights.entries import WEIGHTS, PinnedFile, Snapshot, Weights
from mvtokenflow.weights.package_index import DownloadError, Progress
from mvtokenflow.weights.pickles import Arrays
from mvtokenflow.weights.sources import FromAddress, FromHub, FromIndex, FromTorchvision

TENSORS: Arrays = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.ones(1, np.float32),
}
CONTENT = serialize(TENSORS)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Fake:
    """A source that serves `content`, or refuses."""

    content: bytes | None
    calls: int = 0
    address: str = "a place"

    def fetch(self, target: Path, progress: Progress | None) -> None:
        self.calls += 1
        if self.content is None:
            raise DownloadError("a place: cannot be reached")
        target.write_bytes(self.content)
        if progress is not None:
            progress("file", len(self.content), len(self.content))


def _entry(*sources: Fake, folder: bool = False) -> Weights:
    name = "tiny-net"
    file = PinnedFile(filename=f"{name}.safetensors", bytes=len(CONTENT), sha256=SHA256, sources=sources)
    return Weights(name=name, title="Tiny", files=(file,), licence="MIT", metrics=("psi", "phi"), folder=folder)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty weights folder."""
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.delenv("MVTF_WEIGHTS_TINY_NET", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))  # what other programs keep
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "rembg"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "weights"


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Callable[..., Weights]:
    """Replace the ledger by one entry."""

    def replace(*sources: Fake, **options: bool) -> Weights:
        entry = _entry(*sources, **options)
        monkeypatch.setattr(weights, "WEIGHTS", {entry.name: entry})
        return entry

    return replace


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to connect fails the test."""

    def connect(*arguments: object) -> None:
        raise AssertionError(f"a connection was attempted: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)


SHIPPED = {name for name, entry in WEIGHTS.items() if entry.shipped is not None}


@pytest.mark.parametrize("name", sorted(set(WEIGHTS) - SHIPPED))
def test_missing_weights_say_what_where_and_how(name: str, folder: Path, offline: None) -> None:
    entry = WEIGHTS[name]
    for look in (weights.resolve, weights.verify, weights.load, weights.fingerprint):
        with pytest.raises(WeightsMissingError) as caught:
            look(name)
        message = str(caught.value)
        file = entry.files[:1]
        expected = (
            str(folder / entry.filename),
            *(f"{f.bytes:,} bytes" for f in file),
            *(f.sha256 for f in file),
            f"mvtf-eval weights fetch {name}",
            weights.variable(name),
            *entry.uses,
        )
        for part in expected:
            assert part in message
    assert not folder.exists()  # looking creates nothing


def test_reasons_that_pages_print_do_not_name_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "somebody"))
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "somebody" / "w"))
    with pytest.raises(WeightsMissingError, match=r"^lpips-vgg: ~/w/\S+ is not there") as caught:
        weights.resolve("lpips-vgg")
    assert "somebody" not in str(caught.value)


def test_status_of_an_empty_machine(folder: Path, offline: None) -> None:
    states = weights.status()
    assert [state.weights.name for state in states] == list(WEIGHTS)
    assert {state.weights.name for state in states if state.state != "missing"} == SHIPPED
    assert all(state.reason is None if state.state == "ready" else state.reason for state in states)


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_what_ships_is_there_pinned_and_needs_no_network(name: str, folder: Path, offline: None) -> None:
    (file,) = WEIGHTS[name].files
    path = weights.verify(name)
    assert path.is_relative_to(weights.PACKAGE)
    assert path.stat().st_size == file.bytes
    assert weights.fingerprint(name) == file.sha256
    assert weights.fetch(name) == path
    assert weights.load(name)
    assert not folder.exists()


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_what_should_ship_but_does_not_asks_for_a_reinstall(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "PACKAGE", tmp_path)
    for look in (weights.resolve, weights.fetch):
        with pytest.raises(WeightsMissingError, match="reinstall mvtokenflow") as caught:
            look(name)
        assert "weights fetch" not in str(caught.value)
    broken = tmp_path / str(WEIGHTS[name].shipped)
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    for look in (weights.verify, weights.fetch):
        with pytest.raises(WeightsCorruptError, match="delete it and reinstall mvtokenflow"):
            look(name)


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_what_ships_can_be_packed_and_unpacked(name: str, folder: Path, tmp_path: Path) -> None:
    archives.pack(tmp_path / "w.tar", [name])
    (path,) = archives.unpack(tmp_path / "w.tar")
    assert path == folder / WEIGHTS[name].files[0].filename
    assert weights.verify(name) == path


def test_unknown_names_get_a_suggestion(folder: Path) -> None:
    with pytest.raises(ConfigError, match="lpips-vgg"):
        weights.resolve("lpips-vg")


def test_fetch_checks_places_and_loads(use: Callable[..., Weights], folder: Path) -> None:
    source = Fake(CONTENT)
    use(source)
    heard: list[tuple[str, int, int]] = []
    path = weights.fetch("tiny-net", lambda *step: heard.append(step))
    assert path == folder / "tiny-net.safetensors"
    assert heard == [("file", len(CONTENT), len(CONTENT))]
    assert [file.name for file in folder.iterdir()] == ["tiny-net.safetensors"]
    tensors = weights.load("tiny-net")
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
        name: array.tolist() for name, array in TENSORS.items()
    }
    assert weights.fetch("tiny-net") == path
    assert source.calls == 1  # a verified file is not fetched again
    assert weights.fingerprint("tiny-net") == SHA256
    (state,) = weights.status()
    assert (state.state, state.path, state.reason) == ("ready", path, None)


def test_a_wrong_file_is_named_with_both_hashes_and_replaced_by_fetch(
    use: Callable[..., Weights], folder: Path
) -> None:
    use(Fake(CONTENT))
    path = weights.fetch("tiny-net")
    damaged = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    path.write_bytes(damaged)
    for look in (weights.verify, weights.load, weights.fingerprint):
        with pytest.raises(WeightsCorruptError) as caught:
            look("tiny-net")
        assert SHA256 in str(caught.value)
        assert hashlib.sha256(damaged).hexdigest() in str(caught.value)
    assert weights.status()[0].state == "corrupt"
    assert weights.fetch("tiny-net").read_bytes() == CONTENT


def test_the_next_source_is_tried_and_all_refusals_are_told(use: Callable[..., Weights], folder: Path) -> None:
    use(Fake(None), Fake(b"something else"), Fake(CONTENT))
    assert weights.fetch("tiny-net").read_bytes() == CONTENT
    (folder / "tiny-net.safetensors").unlink()
    use(Fake(None), Fake(b"something else"))
    with pytest.raises(WeightsCorruptError, match=rf"cannot be reached; a place: not the pinned .*{SHA256}"):
        weights.fetch("tiny-net")
    use(Fake(None))
    with pytest.raises(WeightsMissingError, match=r"not fetched\. a place: cannot be reached\. Bring .*pack"):
        weights.fetch("tiny-net")
    assert list(folder.iterdir()) == []  # no half-written files


def test_concurrent_fetches_leave_one_whole_file(use: Callable[..., Weights], folder: Path) -> None:
    use(Fake(CONTENT))
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(weights.fetch("tiny-net").read_bytes())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENT] * 8
    assert [file.name for file in folder.iterdir()] == ["tiny-net.safetensors"]


def test_an_unwritable_folder_is_one_sentence(
    use: Callable[..., Weights], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use(Fake(CONTENT))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "file" / "below"))
    with pytest.raises(UserError, match="set MVTF_WEIGHTS to another folder"):
        weights.fetch("tiny-net")


def test_explicit_path_then_variable_then_folder(
    use: Callable[..., Weights], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(Fake(CONTENT))
    places = {name: tmp_path / f"{name}.safetensors" for name in ("given", "named")}
    for path in places.values():
        path.write_bytes(CONTENT)
    cached = weights.fetch("tiny-net")
    assert weights.resolve("tiny-net") == cached
    monkeypatch.setenv("MVTF_WEIGHTS_TINY_NET", str(places["named"]))
    assert weights.resolve("tiny-net") == places["named"]
    assert weights.resolve("tiny-net", places["given"]) == places["given"]
    places["named"].unlink()  # a wrong setting is an error, never silently another file
    with pytest.raises(WeightsMissingError, match="named by MVTF_WEIGHTS_TINY_NET, is not a file"):
        weights.resolve("tiny-net")
    with pytest.raises(WeightsMissingError, match="given, is not a file"):
        weights.resolve("tiny-net", tmp_path / "none")


def test_a_model_folder_only_where_the_ledger_allows_it(use: Callable[..., Weights], tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    use()
    with pytest.raises(WeightsMissingError, match="is not a file"):
        weights.resolve("tiny-net", model)
    use(folder=True)
    with pytest.raises(WeightsMissingError, match=r"not a model folder; expected config\.json"):
        weights.resolve("tiny-net", model)
    (model / "config.json").write_text("{}")
    save_file({"x": torch.ones(2)}, model / "model.safetensors")
    assert weights.resolve("tiny-net", model) == model
    assert weights.load("tiny-net", model)["x"].tolist() == [1.0, 1.0]
    first = weights.fingerprint("tiny-net", model)
    (model / "config.json").write_text('{"hidden_act": "gelu"}')
    second = weights.fingerprint("tiny-net", model)
    assert second != first  # the configuration is part of the network
    for prepared in ("{}", '{"image_mean": [0.5, 0.5, 0.5]}'):  # and so is how pictures are prepared for it
        (model / "preprocessor_config.json").write_text(prepared)
        assert weights.fingerprint("tiny-net", model) not in (first, second)
        second = weights.fingerprint("tiny-net", model)
    (model / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(WeightsCorruptError, match="cannot be read as weights"):
        weights.load("tiny-net", model)


def test_pack_and_unpack(use: Callable[..., Weights], folder: Path, tmp_path: Path) -> None:
    use(Fake(CONTENT))
    with pytest.raises(WeightsMissingError):
        archives.pack(tmp_path / "out.tar", ["tiny-net"])
    assert not (tmp_path / "out.tar").exists()
    path = weights.fetch("tiny-net")
    assert archives.pack(tmp_path / "out.tar", ["tiny-net"]) == ["tiny-net"]
    path.unlink()
    assert archives.unpack(tmp_path / "out.tar") == [path]
    assert path.read_bytes() == CONTENT
    first = (tmp_path / "out.tar").read_bytes()
    archives.pack(tmp_path / "out.tar", ["tiny-net"])
    assert (tmp_path / "out.tar").read_bytes() == first


def _archive(path: Path, name: str, data: bytes, kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.size = kind, len(data)
        info.linkname = "/etc/passwd" if kind != tarfile.REGTYPE else ""
        tar.addfile(info, io.BytesIO(data))
    return path


def test_files_named_otherwise_are_read_by_what_they_are(use: Callable[..., Weights], tmp_path: Path) -> None:
    """Hub caches name their files by hash, without a suffix."""
    use()
    (tmp_path / SHA256).write_bytes(CONTENT)
    assert weights.load("tiny-net", tmp_path / SHA256)["a"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("../tiny-net.safetensors", CONTENT, tarfile.REGTYPE),
        ("/tmp/tiny-net.safetensors", CONTENT, tarfile.REGTYPE),
        ("mvtf-weights/../../tiny-net.safetensors", CONTENT, tarfile.REGTYPE),
        ("mvtf-weights/tiny-net.safetensors", b"", tarfile.SYMTYPE),
        ("mvtf-weights/tiny-net.safetensors", b"", tarfile.LNKTYPE),
        ("mvtf-weights/other.safetensors", CONTENT, tarfile.REGTYPE),
        ("mvtf-weights/tiny-net.safetensors", CONTENT[:-1] + b"x", tarfile.REGTYPE),
        ("mvtf-weights/tiny-net.safetensors", CONTENT + bytes(1_000_000), tarfile.REGTYPE),
    ],
)
def test_hostile_archives_write_nothing(
    use: Callable[..., Weights], folder: Path, tmp_path: Path, name: str, data: bytes, kind: bytes
) -> None:
    use(Fake(None))
    archive = _archive(tmp_path / "evil.tar", name, data, kind)
    with pytest.raises(WeightsCorruptError):
        archives.unpack(archive)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"evil.tar"}


def test_damaged_archives_are_told(use: Callable[..., Weights], folder: Path, tmp_path: Path) -> None:
    use(Fake(None))
    whole = _archive(tmp_path / "a.tar", "mvtf-weights/tiny-net.safetensors", CONTENT).read_bytes()
    for content in (b"", b"not a tar" * 100, whole[: 512 + len(CONTENT) // 2]):
        (tmp_path / "a.tar").write_bytes(content)
        with pytest.raises(WeightsCorruptError, match=r"a\.tar"):
            archives.unpack(tmp_path / "a.tar")
    with pytest.raises(WeightsCorruptError, match="not an archive"):
        archives.unpack(tmp_path / "none.tar")


SNAPSHOT = Weights(
    name="tiny-many",
    title="Tiny",
    licence="MIT",
    presets=("paper",),
    files=(),
    snapshot=Snapshot(
        repository="somebody/tiny",
        revision=None,
        marker="unet/config.json",
        components=("unet",),
        weighty=("unet",),
        bytes=10,
    ),
)
FILES = {"unet/config.json": b"{}", "unet/model.safetensors": CONTENT}


def _record(files: Mapping[str, bytes]) -> bytes:
    noted = {n: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in files.items()}
    fields = {"schema": 1, "repository": "somebody/tiny", "commit": None, "files": noted}
    return json.dumps(fields).encode()


def _many(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(f"mvtf-weights/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Replace the ledger by one network of two files; its place in the weights folder."""
    monkeypatch.setattr(weights, "WEIGHTS", {SNAPSHOT.name: SNAPSHOT})
    return folder / "tiny-many"


def test_a_network_of_many_files_is_carried_and_held_to_its_record(many: Path, tmp_path: Path) -> None:
    whole = [("tiny-many/recorded.json", _record(FILES)), *((f"tiny-many/{n}", c) for n, c in FILES.items())]
    assert archives.unpack(_many(tmp_path / "a.tar", whole)) == [many]
    assert weights.verify("tiny-many") == weights.fetch("tiny-many") == many
    assert weights.status(hashed=True)[0].state == "ready"
    with pytest.raises(ConfigError, match="a folder of several networks"):
        weights.load("tiny-many")
    changed = CONTENT[:-1] + b"?"
    (many / "unet" / "model.safetensors").write_bytes(changed)
    with pytest.raises(
        WeightsCorruptError, match=r"unet/model.safetensors has another sha256.*delete the folder"
    ):
        weights.verify("tiny-many")
    (many / "recorded.json").unlink()  # as a fetch that was killed leaves it
    with pytest.raises(
        WeightsMissingError, match=r"tiny-many is not whole .*`mvtf run --preset paper` needs it"
    ):
        weights.resolve("tiny-many")


@pytest.mark.parametrize(
    "members",
    [
        [("tiny-many/unet/config.json", b"{}")],  # no record before it
        [("tiny-many/recorded.json", _record(FILES)), ("tiny-many/unet/config.json", b"[]")],
        [("tiny-many/recorded.json", _record(FILES)), ("tiny-many/unet/config.json", b"longer")],
        [("tiny-many/recorded.json", _record(FILES)), ("tiny-many/unet/config.json", b"{}")],  # one is missing
        [
            ("tiny-many/recorded.json", _record({"unet/../../x.json": b""})),
            ("tiny-many/unet/../../x.json", b""),
        ],
        [("tiny-many/recorded.json", _record({"x/config.json": b""})), ("tiny-many/x/config.json", b"")],
        [("tiny-many/recorded.json", _record({"unet/x.pkl": b""})), ("tiny-many/unet/x.pkl", b"")],
        [("tiny-many/recorded.json", b"{}")],
        [("tiny-many/recorded.json", b" " * 2**21)],
    ],
)
def test_hostile_archives_of_many_files_make_no_folder_whole(
    many: Path, tmp_path: Path, members: list[tuple[str, bytes]]
) -> None:
    with pytest.raises(WeightsCorruptError):
        archives.unpack(_many(tmp_path / "evil.tar", members))
    assert not (many / "recorded.json").exists()
    outside = {path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(many)}
    assert outside == {tmp_path / "evil.tar"}


def test_the_ledger_is_consistent() -> None:
    for name, entry in WEIGHTS.items():
        assert entry.name == name
        assert entry.uses
        assert entry.licence
        assert bool(entry.files) == (entry.snapshot is None)
        filenames = [file.filename for file in entry.files]
        assert len(set(filenames)) == len(filenames)
        assert all(bool(file.sources) == (entry.shipped is None) for file in entry.files)
        for file, source in entry.places():
            assert len(file.sha256) == 64
            if isinstance(source, FromAddress | FromHub):
                assert (source.bytes, source.sha256) == (file.bytes, file.sha256)
            if isinstance(source, FromIndex):
                assert source.file.filename == f"{source.file.package}-{source.file.version}.tar.gz"


@pytest.mark.parametrize("name", ["lpips-alex", "lpips-vgg", "i3d-kinetics400"])
def test_the_files_on_this_machine_are_the_pinned_ones(name: str) -> None:
    try:
        weights.verify(name)
    except WeightsMissingError as error:
        pytest.skip(str(error))
    assert weights.fingerprint(name) == WEIGHTS[name].files[0].sha256


def test_serialize_depends_on_the_tensors_only_and_reads_back() -> None:
    transposed = np.arange(6, dtype=np.float32).reshape(3, 2).T
    shuffled = {"a": TENSORS["a"], "b": TENSORS["b"]}
    assert serialize(shuffled) == CONTENT
    assert serialize({"x": transposed}) == serialize({"x": transposed.copy(order="C")})
    header = int.from_bytes(CONTENT[:8], "little")
    assert header % 8 == 0


def test_lpips_renames_and_transposes() -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for k in range(5):
        arrays[f"AlexNet_0/Conv_{k}/kernel"] = rng.random((3, 2, 4, 5), np.float32)
        arrays[f"AlexNet_0/Conv_{k}/bias"] = rng.random(5, np.float32)
        arrays[f"NetLinLayer_{k}/Conv_0/kernel"] = rng.random((1, 1, 5, 1), np.float32)
    tensors = lpips_from_flax(arrays, "AlexNet_0", ALEX_CONVOLUTIONS)
    assert len(tensors) == 15
    assert tensors["features.6.weight"].shape == (5, 4, 3, 2)
    assert tensors["features.6.weight"][4, 3, 2, 1] == arrays["AlexNet_0/Conv_2/kernel"][2, 1, 3, 4]
    assert tensors["lin4.model.1.weight"].shape == (1, 5, 1, 1)


def test_missing_arrays_are_told() -> None:
    with pytest.raises(WeightsCorruptError, match=r"port\.ckpt: not the arrays expected"):
        convert(
            {"params/Mixed_3b/Branch_9/x/Conv_0/kernel": np.zeros((1, 1, 1, 1, 1), np.float32)},
            i3d_from_flax,
            "port.ckpt",
        )


def test_lpips_from_torchvision_gives_the_same_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The second source yields the pinned bytes, from a backbone with the values of the first."""
    try:
        tensors = weights.load("lpips-alex")
    except WeightsMissingError as error:
        pytest.skip(str(error))
    backbone = {name: x for name, x in tensors.items() if name.startswith("features.")}
    torch.save({**backbone, "classifier.1.weight": torch.ones(3, 3)}, tmp_path / "alexnet.pth")
    monkeypatch.setattr(
        FromAddress,
        "fetch",
        lambda self, target, progress: target.write_bytes((tmp_path / "alexnet.pth").read_bytes()),
    )
    file = WEIGHTS["lpips-alex"].files[0]
    (source,) = (source for source in file.sources if isinstance(source, FromTorchvision))
    source.fetch(tmp_path / "out.safetensors", None)
    assert hashlib.sha256((tmp_path / "out.safetensors").read_bytes()).hexdigest() == file.sha256


def test_the_hub_is_not_asked_when_offline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, offline: None
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    source = FromHub(repository="nobody/nothing", revision="0" * 40, file="x.bin", bytes=1, sha256="0" * 64)
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE"):
        source.fetch(tmp_path / "x", None)
