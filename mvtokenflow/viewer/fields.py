"""Fields as data of a viewer's page: control points where they have some, else the Gaussians of each frame."""

from dataclasses import replace

import torch

from mvtokenflow.distill.fields import ControlField, GaussianField
from mvtokenflow.radiance.planes import upper_time
from mvtokenflow.splat.deform import NodeMotion
from mvtokenflow.splat.field import DynamicField
from mvtokenflow.splat.gaussians import Gaussians
from mvtokenflow.splat.timenet import radial_skinning
from mvtokenflow.viewer.packing import Packed, Skin, Timing, pack_moments, pack_skin


@torch.no_grad()
def pack_dynamic(field: DynamicField, label: str, timing: Timing) -> Packed:
    """Pack a field of the method; a static one as a single moment. Raises as `packing.pack_skin`."""
    if field.control is None:
        return pack_moments([field.at(0.0)], label, Timing(times=(0.0,), fps=timing.fps))
    model, control = field.gaussians, field.control
    still = model.activated()
    skin = Skin(
        still=_fitted(still, field.pixel),
        raw_quats=model.quats,
        nodes=control.positions,
        skinning=control.skinning(model.means, model.hyper),
        motion=control.motion(timing.times),
        moved=torch.stack([moment.means for moment in field.at_many(timing.times)]),
        rotation=field.config.rotation,
        local_frame=field.config.local_frame,
    )
    return pack_skin(skin, label, timing)


@torch.no_grad()
def pack_gaussian_field(field: GaussianField, label: str, fps: float) -> Packed:
    """Pack a field of a rival at the frames of its clip. Raises as `packing.pack_skin`."""
    timing = Timing(times=field.clock, fps=fps)
    if isinstance(field, ControlField):
        return pack_skin(_skin_of(field), label, timing)
    return pack_moments([field.at(time) for time in timing.times], label, timing)


def _skin_of(field: ControlField) -> Skin:
    """Return SC4D's motion as that of control points: their quaternions are their frames."""
    model, frames = field.gaussians, range(len(field.clock))
    at = field.nodes.new_tensor([upper_time(frame, len(field.clock)) for frame in frames])
    motion = field.network(field.nodes, at[:, None, None])
    turn = motion.quaternion - motion.quaternion.new_tensor([1.0, 0.0, 0.0, 0.0])
    return Skin(
        still=_fitted(model.activated(), field.pixel),
        raw_quats=model.quats,
        nodes=field.nodes,
        skinning=radial_skinning(model.means, field.nodes, field.log_radii, field.neighbours),
        motion=NodeMotion(motion.translation, turn, torch.zeros_like(motion.translation), turn),
        moved=torch.stack([moment.means for moment in field.at_frames(frames)]),
    )


def _fitted(still: Gaussians, pixel: float | None) -> Gaussians:
    return replace(still, pixel=pixel)
