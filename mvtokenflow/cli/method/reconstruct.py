"""`mvtf reconstruct`: fit a dynamic Gaussian field to multiview pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mvtokenflow.base.device import AUTO
from mvtokenflow.base.options import Device, Json, check_there
from mvtokenflow.base.settings import overridden
from mvtokenflow.base.terminal import check_device, chosen_device, print_json, print_message, progress
from mvtokenflow.splat.training_config import preset as preset_named

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="MULTIVIEW_DIR", help="view_<k>/<n>.png or frame_<n>/<k>.png, RGBA or RGB.", show_default=False
    ),
]
CamerasOption = Annotated[
    str | None,
    typer.Option("--cameras", help="era3d, zero123plus or FILE.json; default MULTIVIEW_DIR/cameras.json."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Change one setting, e.g. coarse.iterations=500."),
]
PRINT_EVERY = 200  # steps between lines of losses


def reconstruct(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the result; kept between runs.")],
    cameras: CamerasOption = None,
    preset: Annotated[str, typer.Option(help="paper (GPU) or mini (two CPU cores).")] = "mini",
    fit_size: Annotated[
        int | None, typer.Option(help="Fit to pictures of this side in pixels, scaled down.")
    ] = None,
    frames: Annotated[int | None, typer.Option(help="Take the first frames only.")] = None,
    settings: Settings = None,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 0,
    binary_alpha: Annotated[
        bool, typer.Option("--binary-alpha", help="Alpha above 127 is object, the rest is not.")
    ] = False,
    refine: Annotated[
        bool, typer.Option(help="Train on with the same pictures after the coarse stage.")
    ] = True,
    device: Device = AUTO,
    as_json: Json = False,
) -> None:
    """Reconstruct a dynamic Gaussian field from videos of one object in several fixed views.

    Optional in MULTIVIEW_DIR: masks/ and normals/ in the same layout, flow.npz of one view (arrays view, pairs,
    flow, visible), times.json (a list of the frames' times in [0, 1]). Run it again to go on where it stopped.

    Example: mvtf reconstruct data/minions --cameras zero123plus --binary-alpha --fit-size 128 -o out/minions
    """
    check_there(folder, "give a folder of views, view_<k>/<n>.png")
    if cameras is not None and cameras.endswith(".json"):
        check_there(Path(cameras), "give --cameras a file of cameras, era3d or zero123plus")
    config = overridden(preset_named(preset), settings or [])
    check_device(device)
    import torch

    from mvtokenflow.base.files import write_bytes
    from mvtokenflow.base.seeds import check_seed
    from mvtokenflow.media.masks import odd_alpha
    from mvtokenflow.splat.previews import write_comparison
    from mvtokenflow.splat.trainer import FIELD_FILE
    from mvtokenflow.splat.trainer import reconstruct as train
    from mvtokenflow.splat.trainer import refine as train_on
    from mvtokenflow.views.folder import TIMES_FILE, read_multiview
    from mvtokenflow.workdir.folder import claim
    from mvtokenflow.workdir.lock import working_in

    check_seed(seed)
    video = read_multiview(folder, cameras, binary_alpha=binary_alpha)
    notes = odd_alpha(str(folder), (video.alpha * 255).round().byte().flatten(0, 1)[..., 0].numpy())
    if video.clock is not None and not (folder / TIMES_FILE).exists():
        notes.append(f"{folder}: frames stand as far apart as their numbers, which have gaps")
    for note in notes:
        print_message(f"note: {note}")
    device = chosen_device(device)
    video = video if frames is None else video.head(frames)
    video = (video if fit_size is None else video.resized(fit_size)).with_room(config.extent).to(device)
    config.keyframe_of(len(video))  # refuses a wrong one before the folder is claimed
    identity = {
        "what": "reconstruction of pictures",
        "config": config.to_dict(),
        "video": video.digest(),
        "seed": seed,
        "refine": refine,
    }
    with working_in(out):
        claim(out, identity)
        generator = torch.Generator().manual_seed(seed)
        with progress() as report:
            field = train(video, config, out / "coarse", generator, report, watch=_print_terms)
            if refine:
                field = train_on(field, video, config, out / "refined", generator, report, watch=_print_terms)
        last = out / ("refined/refine" if refine else "coarse/coarse") / FIELD_FILE
        write_bytes(out / FIELD_FILE, last.read_bytes())
        agreement = write_comparison(out / "comparison.png", field, video)
    result: dict[str, Any] = {
        "field": str(out / FIELD_FILE),
        "comparison": str(out / "comparison.png"),
        "frames": len(video),
        "views": video.views,
        "size": video.cameras.width,
        "gaussians": len(field.gaussians),
        "training_views_psnr_db": round(agreement, 3),
        "notes": notes,
    }
    if as_json:
        print_json(result)
    else:
        typer.echo(
            f"{result['field']}: {result['gaussians']} Gaussians, {agreement:.2f} dB on the training views"
        )


def _print_terms(stage: str, row: Mapping[str, float]) -> None:
    """Print the loss terms of every `PRINT_EVERY`-th step, above the progress bars."""
    step = int(row["step"])
    if step % PRINT_EVERY:
        return
    counts = ("step", "gaussians", "seconds", "loss")
    terms = " ".join(f"{name} {value:.4f}" for name, value in row.items() if name not in counts)
    print_message(f"{stage} {step}: loss {row['loss']:.4f} = {terms}; {int(row['gaussians'])} Gaussians")
