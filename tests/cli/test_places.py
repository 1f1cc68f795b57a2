"""Places a real user runs in: other consoles, no home, read-only packages, umasks, mounts, full disks."""

import errno
import io
import os
import pwd
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numba.core import caching

from mvtokenflow.base import compiled as compiled_module
from mvtokenflow.base import terminal
from mvtokenflow.base.compiled import code_folder, compiled
from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.base.files import atomic_path, cache_root, redact_paths, write_text
from mvtokenflow.base.memory import ran_out
from mvtokenflow.base.partial import partial_file, partial_folder, sweep
from mvtokenflow.base.tensor_files import write_checkpoint, write_tensors
from mvtokenflow.datasets.folder import FolderDataset
from mvtokenflow.eval.doctor import examine
from mvtokenflow.eval.records import rows as records
from mvtokenflow.eval.records.rows import Row, row_log
from mvtokenflow.media.video import write_video
from mvtokenflow.method.asset import keep_field
from mvtokenflow.reports import site
from mvtokenflow.reports.site import build_site
from mvtokenflow.splat.config import FieldConfig
from mvtokenflow.splat.field import DynamicField
from mvtokenflow.splat.io import save_field
from mvtokenflow.workdir.lock import LOCK_FILE, working_in

Cli = Callable[..., Any]


# ---- consoles ----


@pytest.mark.parametrize("encoding", ["cp1252", "gbk", "latin-1", "ascii", "utf-8"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_signs_that_a_console_lacks_are_replaced(
    encoding: str, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "argv", ["mvtf"])
    monkeypatch.setattr(sys, stream, console)
    text = "PSNR ↑ −3 ∞ \udcff 中"
    terminal.run(lambda: print(text, file=getattr(sys, stream)))
    console.flush()
    printed = console.buffer.getvalue()
    assert printed.decode(encoding).startswith("PSNR ")
    assert ("↑" in printed.decode(encoding)) == (encoding in ("utf-8", "gbk"))


def test_protocols_are_listed_on_a_console_of_windows(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    console = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", console)
    assert cli("protocols").code == 0


def test_a_full_disk_behind_stdout_is_one_sentence() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    program = "from mvtokenflow.base.terminal import run; run(lambda: print('x' * 100))"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: output: No space left on device; make room or check permissions, then run again"
    ]


def test_without_a_stdout_nothing_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "argv", ["mvtf"])
    terminal.run(lambda: terminal.print_json({}))


# ---- interrupts ----


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Shells let background jobs ignore interrupts, and with them tests that run in one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("becomes", [KeyboardInterrupt, SystemError, SystemExit, ImportError])
def test_an_interrupt_is_one_line_whatever_compiled_code_makes_of_it(
    becomes: type[BaseException], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["mvtf"])

    def app() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise becomes(4) from error

    with pytest.raises(SystemExit) as end:
        terminal.run(app)
    assert end.value.code == 130
    assert capsys.readouterr().err == ("interrupted; run the same command again to resume where it stopped\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_that_a_library_swallowed_ends_the_command_at_the_next_step(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["mvtf"])

    def app() -> None:
        with terminal.progress() as report:
            with suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            report("coarse", 1, 2)

    with pytest.raises(SystemExit) as end:
        terminal.run(app)
    assert end.value.code == 130
    assert capsys.readouterr().err.startswith("interrupted;")


# ---- home folders ----


@pytest.mark.parametrize(
    "variable", ["MVTF_CACHE", "MVTF_WEIGHTS", "MVTF_WEIGHTS_I3D_KINETICS400", "MVTF_CONSISTENT4D"]
)
def test_the_home_of_nobody_is_named_with_its_variable(
    variable: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "~nobody-here/x")
    ended = cli("doctor")
    assert ended.code == 2
    assert ended.err == f"error: {variable}: ~nobody-here/x has no home folder; give a path without ~\n"


def test_the_home_of_nobody_in_an_option(cli: Cli) -> None:
    ended = cli("datasets", "list", "~nobody-here/x")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "~nobody-here/x has no home folder" in ended.err


def test_without_a_home_the_cache_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def nobody(number: int) -> None:
        raise KeyError(number)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("HOME", "XDG_CACHE_HOME", "MVTF_CACHE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="no home folder to keep a cache in; set MVTF_CACHE"):
        cache_root()
    assert redact_paths(tmp_path / "a.png") == "a.png"
    monkeypatch.setenv("MVTF_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    assert not list(tmp_path.iterdir()), "no folder named ~"


# ---- compiled code ----


def _twice(x: int) -> int:
    return 2 * x


def test_compiled_code_goes_into_our_cache_where_numba_has_no_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    locators = vars(caching.CacheImpl)["_locator_classes"]
    provided = [locator for locator in locators if "UserProvided" in locator.__name__]
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", provided)
    monkeypatch.setenv("MVTF_CACHE", str(tmp_path / "cache"))
    assert compiled()(_twice)(4) == 8
    assert list((tmp_path / "cache" / "compiled").rglob("*.nbi"))


def test_without_any_place_code_is_compiled_anew_and_doctor_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    function = compiled()(_twice)
    assert function(4) == 8
    monkeypatch.setattr(compiled_module, "_probe", function)
    assert code_folder() is None
    (check,) = [check for check in examine() if check.name == "compiled code"]
    assert not check.ok
    assert "NUMBA_CACHE_DIR" in check.fix


# ---- names ----


@pytest.fixture
def odd(tmp_path: Path) -> str:
    """A name that is not UTF-8, on a file system that takes one."""
    name = os.fsdecode(b"c\xff")
    try:
        (tmp_path / name).mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (tmp_path / name).rmdir()
    return name


def test_an_object_whose_name_is_not_utf8_is_refused_before_the_work(
    odd: str, layout: Callable[..., Path], cli: Cli, tmp_path: Path
) -> None:
    pred, gt = (layout(tmp_path / root, objects=(odd,)) for root in ("pred", "gt"))
    ended = cli("score", pred, "--gt", gt, "--record", tmp_path / "record", "--device", "cpu")
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert "its name is not UTF-8; rename it" in ended.err
    assert not (tmp_path / "record").exists()
    with pytest.raises(DataError, match="not UTF-8; rename it"):
        FolderDataset(pred).scene_names()


@pytest.mark.parametrize(("command", "code"), [("score", 2), ("table1", 2), ("regress", 4)])
def test_a_word_that_is_not_utf8_is_refused(command: str, code: int, odd: str, cli: Cli) -> None:
    ended = cli(command, odd, "--import", f"{odd}=x")
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.endswith("not UTF-8; rename the file or folder\n")


# ---- modes ----


@pytest.fixture(params=[0o077, 0o022, 0o007])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def _modes(folder: Path) -> set[tuple[bool, int]]:
    found = {folder, *folder.rglob("*")}
    return {(path.is_dir(), stat.S_IMODE(path.lstat().st_mode)) for path in found if not path.is_symlink()}


def test_files_and_folders_are_what_the_umask_leaves(umask: int, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_site([], [], out)
    build_site([], [], out)  # replaces it
    write_text(out / "a" / "b.txt", "text")
    write_tensors(out / "t.safetensors", {"a": torch.zeros(1)}, {})
    write_checkpoint(out / "c.pt", {"a": 1})
    write_video(out / "v.mp4", np.zeros((2, 16, 16, 3), np.uint8), 8)
    with partial_folder(out / "made") as partial:
        write_text(partial / "x", "text")
        partial.rename(out / "made")
    with working_in(out / "run"):
        assert _modes(out) == {(True, 0o777 & ~umask), (False, 0o666 & ~umask)}


# ---- mounts and disks ----


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Path]:
    """An empty drive of 300 KiB of our own."""
    folder = tmp_path / "drive"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    try:
        mounted = os.name == "posix" and os.geteuid() == 0 and subprocess.run(command, capture_output=True)
    except OSError:
        mounted = False
    if not mounted or mounted.returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_mount_point_is_named_as_one(drive: Path) -> None:
    with pytest.raises(DataError, match=r"drive: is a mount point.*name a folder in it \(.*drive/site\)"):
        build_site([], [], drive)
    assert [path.name for path in drive.parent.iterdir()] == ["drive"]
    assert build_site([], [], drive / "site").is_file()


def test_a_mount_that_looks_like_a_folder_is_named_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_site([], [], tmp_path / "site")
    rename = Path.rename

    def busy(path: Path, target: Path) -> Path:
        if path.name == "site":
            raise OSError(errno.EBUSY, "Device or resource busy", str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", busy)
    with pytest.raises(DataError, match="is a mount point"):
        build_site([], [], tmp_path / "site")
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


WRITERS: dict[str, Callable[[Path], None]] = {
    "field.safetensors": lambda path: write_tensors(path, {"a": torch.zeros(10**6)}, {}),
    "checkpoint.pt": lambda path: write_checkpoint(path, {"a": torch.zeros(10**6)}),
    "page.html": lambda path: write_text(path, "x" * 10**6),
    "video.mp4": lambda path: write_video(
        path, np.random.default_rng(0).integers(0, 256, (60, 160, 160, 3), dtype=np.uint8), 8
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_names_the_file_and_leaves_nothing(name: str, drive: Path) -> None:
    with pytest.raises(OSError, match="No space left on device") as error:
        WRITERS[name](drive / name)
    assert terminal.sentence_of(error.value) == (
        f"{drive / name}: No space left on device; make room or check permissions, then run again"
    )
    assert not list(drive.iterdir())


# ---- memory ----


def test_memory_that_runs_out_is_told_by_every_library() -> None:
    program = """
import resource, sys
import numpy as np, torch
from mvtokenflow.base.memory import ran_out
resource.setrlimit(resource.RLIMIT_AS, (2**34, 2**34))
for make in (lambda: torch.zeros(2**40), lambda: np.zeros(2**40), lambda: bytearray(2**42)):
    try:
        make()
    except Exception as error:
        assert ran_out(error) and "\\n" not in ran_out(error), repr(error)
    else:
        sys.exit("it was there")
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert ran_out(OSError(errno.ENOMEM, "Cannot allocate memory")) is not None
    assert ran_out(RuntimeError("shape mismatch")) is None
    assert ran_out(ValueError("can't allocate memory")) is None
    sentence = terminal.sentence_of(MemoryError())
    assert sentence is not None
    assert sentence.startswith("too little memory")


# ---- two processes ----


def _row(key: str) -> Row:
    return Row(key=key, object="a", view="eval_0", frame=0, metric="psnr", value=1.0, signature="s")


def test_a_record_that_another_process_has_written_is_not_written_again(tmp_path: Path) -> None:
    row_log(tmp_path).append([_row("1")])
    program = (
        "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path; from test_places import _row\n"
        "from mvtokenflow.eval.records.rows import row_log\n"
        "row_log(Path(sys.argv[1])).append([_row('1'), _row('2')])"
    )
    command = [sys.executable, "-c", program, str(tmp_path), str(Path(__file__).parent)]
    subprocess.run(command, check=True)
    row_log(tmp_path).append([_row("3")])
    row_log(tmp_path).append([_row("2"), _row("4")])  # the other one was ahead
    assert [row.key for row in row_log(tmp_path).read()] == ["1", "2", "3", "4"]


def test_a_torn_line_of_a_killed_writer_is_removed_and_known_rows_are_kept(tmp_path: Path) -> None:
    log = row_log(tmp_path)
    log.append([_row("1")])
    with log.path.open("ab") as stream:
        stream.write(b'{"schema": 1, "key": "torn')
    records._SEEN.clear()
    log.append([_row("1"), _row("2")])
    assert [row.key for row in log.read()] == ["1", "2"]


def test_who_waits_for_a_folder_works_after_the_other(tmp_path: Path) -> None:
    order: list[str] = []
    told = threading.Event()

    def second() -> None:
        def waiting(sentence: str) -> None:
            order.append(sentence)
            told.set()

        with working_in(tmp_path, waiting):
            order.append("second")

    thread = threading.Thread(target=second)
    with working_in(tmp_path):
        thread.start()
        assert told.wait(30)
        order.append("first")
    thread.join(30)
    assert order == [f"another process is working in {tmp_path}; waiting for it", "first", "second"]
    assert not list(tmp_path.iterdir())


# ---- what dead processes leave ----


def _killed(program: str, *arguments: object) -> None:
    """Run a program that ends as kill -9 ends it."""
    code = "import os, sys\nfrom pathlib import Path\n" + program + "\nos._exit(9)"
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 9, done.stderr


def _hidden(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(".")]


def test_what_a_killed_process_was_writing_goes_with_the_next_one_there(tmp_path: Path) -> None:
    _killed(
        """
from mvtokenflow.base.files import atomic_path
from mvtokenflow.workdir.lock import working_in
from mvtokenflow.base.partial import partial_folder
root = Path(sys.argv[1])
working = working_in(root)
working.__enter__()
held = [atomic_path(root / "a" / "b" / "f.safetensors"), atomic_path(root / "x"), partial_folder(root / "y")]
for one in held:
    one.__enter__()
""",
        tmp_path,
    )
    assert len(_hidden(tmp_path)) == 4
    (tmp_path / ".mine").write_text("of the user")
    with partial_file(tmp_path / "live") as live, working_in(tmp_path):
        assert sorted(_hidden(tmp_path)) == sorted([live, tmp_path / ".mine", tmp_path / LOCK_FILE])
    assert _hidden(tmp_path) == [tmp_path / ".mine"]


def test_the_lock_alone_is_left_alone_where_nobody_died(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a") as live:
        sweep(tmp_path)
        assert live.exists()
        live.write_text("x")
    assert (tmp_path / "a").read_text() == "x"


def test_a_site_that_was_being_replaced_by_a_killed_process_is_put_back(tmp_path: Path) -> None:
    build_site([], [], tmp_path / "site", title="the old one")
    _killed(
        """
from mvtokenflow.method.asset import keep_field
from mvtokenflow.reports import site
def stop(path, target):
    rename(path, target)
    if path.name == "site":
        os._exit(9)
rename = Path.rename
Path.rename = stop
site.build_site([], [], Path(sys.argv[1]) / "site", title="the new one")
""",
        tmp_path,
    )
    assert not (tmp_path / "site").exists()
    site._tidy(tmp_path / "site")
    assert "the old one" in (tmp_path / "site" / "index.html").read_text()
    build_site([], [], tmp_path / "site", title="the third one")
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


# ---- videos ----


def test_equal_frames_are_equal_videos_on_any_number_of_cores(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, frames, 8)
    first = (tmp_path / "a.mp4").read_bytes()
    assert first == (tmp_path / "b.mp4").read_bytes()
    assert b"threads=1 " in first  # what the encoder notes; it differs with the cores otherwise


# ---- the result of a run ----


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "another"])
def test_a_damaged_result_is_written_again_from_the_last_stage(damage: str, tmp_path: Path) -> None:
    points = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)) * 0.3
    field, other = (DynamicField.from_points(FieldConfig(), points * size, points.abs()) for size in (1, 2))
    path = tmp_path / "field.safetensors"
    said: list[str] = []
    keep_field(path, field, said.append)
    whole, made = path.read_bytes(), path.stat().st_mtime_ns
    keep_field(path, field, said.append)
    assert not said
    assert path.stat().st_mtime_ns == made, "a whole one is left alone"
    flipped = bytearray(whole)
    flipped[-9] ^= 1  # a value of another field
    save_field(tmp_path / "other", other)
    contents = {
        "empty": b"",
        "cut": whole[:-5],
        "flipped": flipped,
        "another": (tmp_path / "other").read_bytes(),
    }
    path.write_bytes(bytes(contents[damage]))
    keep_field(path, field, said.append)
    assert path.read_bytes() == whole
    assert len(said) == 1
    assert said[0].startswith(f"{path}: ")
    assert said[0].endswith(("written again from the last stage", "written again from it"))
