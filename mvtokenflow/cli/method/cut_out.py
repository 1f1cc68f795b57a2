"""`mvtf cut-out`: the frames of a video with its object cut out, as RGBA pictures that every command reads."""

from typing import Any

import typer

from mvtokenflow.base.device import AUTO
from mvtokenflow.base.options import Device, Json, check_there
from mvtokenflow.base.terminal import check_device, print_json, print_message, progress
from mvtokenflow.cli.method.run import (
    Background,
    Box,
    Frames,
    Mask,
    Out,
    Points,
    Segment,
    Start,
    Stride,
    Video,
    segmentation_of,
)


def cut_out(
    video: Video,
    out: Out,
    mask: Mask = None,
    segment: Segment = None,
    point: Points = None,
    box: Box = None,
    background: Background = None,
    start: Start = "0",
    frames: Frames = None,
    stride: Stride = 1,
    device: Device = AUTO,
    as_json: Json = False,
) -> None:
    """Cut the object out of a video: OUT/frames/<n>.png with alpha, and OUT/masks.png, which shows the masks.

    The frames are a video for `mvtf run`, and an object of a folder of videos for `mvtf-eval`.

    Example: mvtf cut-out mug-on-white.mp4 -o out/mug --frames 32
    """
    check_there(video, "give a video, or a folder of frames <n>.png")
    check_there(None if segment else mask, "give --mask a video, or a folder of <n>.png")
    check_device(device)
    from mvtokenflow.method.source import read_source, write_cut_out
    from mvtokenflow.workdir.lock import working_in

    given = read_source(
        video,
        mask,
        segmentation_of(segment, point or [], box, device),
        background=background,
        start=start,
        frames=frames,
        stride=stride,
    )
    with working_in(out), progress() as bars:
        clip, paths = write_cut_out(given, out, bars)
    if as_json:
        found: dict[str, Any] = {
            "frames": str(out / "frames"),
            "count": len(paths),
            "cut_out_by": given.cut_out_by,
        }
        print_json({**found, "notes": list(clip.notes)})
        return
    for note in clip.notes:
        print_message(f"note: {note}")
    print_message(f"{len(paths)} frames, cut out by {given.cut_out_by}")
    typer.echo(out / "frames")
