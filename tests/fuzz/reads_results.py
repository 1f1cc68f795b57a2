"""Readers of results of other programs."""

import json
from pathlib import Path

import official


def make_deformed(folder: Path, shared: Path) -> None:
    """A run of STAG4D; its network is read by an unpickler of the product's own."""
    official.stag4d(folder / "toy8000")


def make_cascade(folder: Path, shared: Path) -> None:
    """A Lightning checkpoint of Consistent4D."""
    official.consistent4d(folder)


def make_imported(folder: Path, shared: Path) -> None:
    views = {"eval_0": {"from": "az_285", "azimuth_deg": 285.0, "degrees_off": 0.0}}
    record = {
        "form": 1,
        "kind": "pictures",
        "views": views,
        "numbers": [0, 1],
        "remarks": ["RGBA put on white"],
    }
    (folder / "import.json").write_text(json.dumps(record))


def read_deformation(folder: Path) -> None:
    from mvtokenflow.baselines.importers.deformed import read_deformation

    read_deformation(folder / "toy8000" / "deformation.pth")


def read_raw(folder: Path) -> None:
    from mvtokenflow.baselines.importers.plies import read_raw

    read_raw(folder / "toy8000" / "model.ply")


def read_cascade(folder: Path) -> None:
    from mvtokenflow.baselines.importers.consistent4d import read_field

    read_field(folder / "ckpts" / "last.ckpt")


def read_imported(folder: Path) -> None:
    from mvtokenflow.baselines.imported import read_record

    read_record(folder)
