"""Valid fields, reconstructions and folders of `mvtf run`, and who reads them."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import valid

if TYPE_CHECKING:
    from mvtokenflow.splat.training_config import ReconstructionConfig

# ---- fields ----


def make_field(folder: Path, shared: Path) -> None:
    shutil.copyfile(valid.run_folder(shared) / "out" / "field.safetensors", folder / "field.safetensors")


def read_field(folder: Path) -> None:
    from mvtokenflow.cli.method.export import open_field
    from mvtokenflow.splat.export import ExportView, Shot, picture

    field, _ = open_field(folder / "field.safetensors", "cpu")
    picture(field, Shot(0.0, 0.5), ExportView(size=16))


def make_ply(folder: Path, shared: Path) -> None:
    path = min((valid.run_folder(shared) / "out" / "ply").glob("*.ply"))
    shutil.copyfile(path, folder / "a.ply")


def read_ply(folder: Path) -> None:
    from mvtokenflow.splat.io import read_ply

    read_ply(folder / "a.ply")


def make_export(folder: Path, shared: Path) -> None:
    """Killed after the frames: the video is made of what is there."""
    shutil.copytree(valid.run_folder(shared) / "out" / "azimuth_90", folder / "out" / "azimuth_90")
    shutil.copytree(valid.run_folder(shared) / "out" / "ply", folder / "out" / "ply")
    (folder / "out" / "azimuth_90" / "azimuth_90.mp4").unlink()
    make_field(folder, shared)


def read_export(folder: Path) -> None:
    from mvtokenflow.cli.method.export import open_field
    from mvtokenflow.splat.export import ExportView, export_ply, export_video, fixed_view
    from mvtokenflow.splat.timed import MovingGaussians

    field, source = open_field(folder / "field.safetensors", "cpu")
    shots = fixed_view(90.0, valid.FRAMES)
    view = ExportView(size=32)
    export_video(field, shots, view, folder / "out" / "azimuth_90", fps=8.0, source=source)
    assert isinstance(field, MovingGaussians)
    export_ply(field, valid.FRAMES, folder / "out" / "ply", source=source)


# ---- the folder of a reconstruction ----


def _config() -> "ReconstructionConfig":
    from mvtokenflow.base.settings import overridden
    from mvtokenflow.splat.training_config import preset

    return overridden(preset("mini"), valid.RECONSTRUCT_SETTINGS)


def read_reconstruction(folder: Path) -> None:
    """`mvtf reconstruct` goes on where it was killed: in its first stage, with a checkpoint."""
    from mvtokenflow.splat.trainer import reconstruct
    from mvtokenflow.views.folder import read_multiview

    video = read_multiview(folder / "views")
    generator = torch.Generator().manual_seed(0)
    reconstruct(video, _config(), folder / "coarse", generator, checkpoint_every=2)


def make_reconstruction(folder: Path, shared: Path) -> None:
    """As a kill leaves it between the last checkpoint and the field of the stage `coarse`."""
    from unittest.mock import patch

    shutil.copytree(valid.view_folder(shared), folder / "views")
    stop = RuntimeError("killed")
    saved = 0

    def kill(*arguments: object, **options: object) -> None:
        nonlocal saved
        from mvtokenflow.splat.io import save_field

        saved += 1
        if saved == 2:
            raise stop
        save_field(*arguments, **options)  # type: ignore[arg-type]

    try:
        with patch("mvtokenflow.splat.trainer.save_field", kill):
            read_reconstruction(folder)
    except RuntimeError as error:
        if error is not stop:
            raise
    assert (folder / "coarse" / "coarse" / "checkpoint.pt").is_file()


# ---- the folder of `mvtf run` ----


def make_run(folder: Path, shared: Path) -> None:
    shutil.copytree(valid.run_folder(shared), folder, dirs_exist_ok=True)


def read_run(folder: Path) -> None:
    """The command once more, as a user gives it who wants to see where it stands."""
    import mvtokenflow.cli.method.run as room

    prior = folder.parents[1] / "shared" / "prior.safetensors"  # its path is among the settings
    room.run(folder / "clip", folder / "out", settings=[f"prior={prior}", *valid.RUN_SETTINGS], size=32)


def make_page(folder: Path, shared: Path) -> None:
    out = valid.run_folder(shared) / "out"
    names = ["run.json", "environment.json", "artefacts.json", "method/stages.json"]
    names += [path.relative_to(out).as_posix() for path in out.glob("method/*/*/losses.jsonl")]
    for name in names:
        (folder / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(out / name, folder / "out" / name)
    for path in out.glob("method/*/cameras.json"):
        shutil.copytree(path.parent, folder / "out" / path.parent.relative_to(out))


def read_page(folder: Path) -> None:
    from mvtokenflow.reports.run_page import write_page

    write_page(folder / "out")


def make_costs(folder: Path, shared: Path) -> None:
    shutil.copyfile(valid.run_folder(shared) / "out" / "method" / "stages.json", folder / "stages.json")


def read_costs(folder: Path) -> None:
    from mvtokenflow.workdir.cost import Cost, keep_cost, measured, read_costs

    read_costs(folder / "stages.json")
    with measured("views", folder / "stages.json", torch.device("cpu")):
        pass
    keep_cost(folder / "stages.json", Cost(stage="again", seconds=1.0, peak_mib=1.0, finished=True))


def make_losses(folder: Path, shared: Path) -> None:
    out = valid.run_folder(shared) / "out" / "method" / "coarse" / "static" / "losses.jsonl"
    shutil.copyfile(out, folder / "losses.jsonl")


def read_losses(folder: Path) -> None:
    """Drawn, and gone on with from step 2."""
    from mvtokenflow.reports.curves import charts
    from mvtokenflow.workdir.folder import LossLog, read_losses

    charts([("static", read_losses(folder / "losses.jsonl"))])
    LossLog(folder / "losses.jsonl", 2).append({"step": 3, "loss": 0.5})


def make_stage(folder: Path, shared: Path) -> None:
    from mvtokenflow.workdir.cost import Cost
    from mvtokenflow.workdir.store import StageStore

    (folder / "work" / "coarse").mkdir(parents=True)
    (folder / "work" / "coarse" / "field.safetensors").write_bytes(b"x")
    cost = Cost(stage="coarse", seconds=1.0, peak_mib=2.0, finished=True)
    StageStore(folder / "store", ("mvtokenflow.method.pipeline",)).keep(
        "coarse", {"seed": 0}, folder / "work", ["coarse"], cost
    )


def read_stage(folder: Path) -> None:
    """A finished stage that another run takes."""
    from mvtokenflow.workdir.cost import keep_cost
    from mvtokenflow.workdir.store import StageStore

    found = StageStore(folder / "store", ("mvtokenflow.method.pipeline",)).find("coarse", {"seed": 0})
    assert found is not None
    keep_cost(folder / "other" / "stages.json", found.cost)
    found.copy_to(folder / "other")


def make_made_by(folder: Path, shared: Path) -> None:
    shutil.copyfile(valid.run_folder(shared) / "out" / "method" / "views.json", folder / "views.json")


def read_made_by(folder: Path) -> None:
    from mvtokenflow.method.pipeline import made_by

    made_by(folder)
