"""SC4D's results: Gaussians that follow control points, `s2/`, or its first stage alone, `s1/`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mvtokenflow.base.damaged import damage
from mvtokenflow.base.errors import DataError
from mvtokenflow.baselines.importers.checkpoints import read_state
from mvtokenflow.baselines.importers.contract import Found, Given, Lacks, Opened, Wanted
from mvtokenflow.baselines.importers.plies import columns_of, is_gaussians, read_columns, read_raw
from mvtokenflow.baselines.importers.rendered import (
    frame_numbers_of,
    frames_fitted,
    gaussians_drawn,
    method_cameras,
    open_rendered,
)
from mvtokenflow.splat.control import quaternion_product
from mvtokenflow.splat.gaussians import Gaussians
from mvtokenflow.splat.timenet import NEIGHBOURS, TimeNet, follow, radial_skinning

FRAMES = 32  # of the published videos; the files do not say
RADIUS = 2.0
NODES = ("c_x", "c_y", "c_z", "c_radius")
_MODEL, _NODES, _NET = "point_cloud.ply", "point_cloud_c.ply", "timenet.pth"


@dataclass(frozen=True)
class Sc4d:
    """Both stages of SC4D; the second is taken where it is there."""

    name: str = "sc4d"
    repository: str | None = "JarrentWu1031/SC4D"
    options: tuple[str, ...] = ("frames", "radius", "fov_deg")

    def probe(self, folder: Path) -> Found | Lacks:
        """Recognise a `save_path` with `s2` or `s1`, or one of these folders."""
        for root in (folder / "s2", folder / "s1", folder):
            if is_gaussians(root / _MODEL) and (root / _NET).is_file():
                return Found(root=root, scene=(folder.parent if root == folder else folder).resolve().name)
        return Lacks(f"s2/ or s1/ with {_MODEL} and {_NET}")

    def open(self, found: Found, wanted: Sequence[Wanted], given: Given) -> Opened:
        """Read the network, the Gaussians and, of the second stage, the control points."""
        paths = [found.root / _MODEL, found.root / _NET]
        second = set(NODES) <= columns_of(found.root / _NODES)
        if found.root.name == "s2" and not second:
            raise DataError(f"{found.root / _NODES}: not there, or without {', '.join(NODES)}; copy it again")
        net, raw = _network(paths[1]), read_raw(paths[0])
        count = frames_fitted(given, wanted, FRAMES, found.root)

        def at(index: int) -> Gaussians:
            motion = net(raw.rest.means, torch.tensor([[index / count]]))
            turned = quaternion_product(motion.quaternion, raw.quats)
            quats = torch.nn.functional.normalize(turned, dim=-1)
            return replace(raw.rest, means=raw.rest.means + motion.translation, quats=quats)

        remarks: tuple[str, ...] = ("the first stage of SC4D only",)
        place: Callable[[int], Gaussians] = at
        if second:
            paths.append(found.root / _NODES)
            nodes = read_columns(paths[2], NODES)
            if len(nodes) < NEIGHBOURS:
                raise DataError(f"{paths[2]}: {len(nodes)} control points, at least {NEIGHBOURS} are needed")
            weighting = radial_skinning(raw.rest.means, nodes[:, :3], nodes[:, 3], NEIGHBOURS)

            def following(index: int) -> Gaussians:
                motion = net(nodes[:, :3], torch.tensor([[index / count]]))
                means, quats = follow(raw.rest.means, raw.quats, nodes[:, :3], motion, weighting)
                return replace(raw.rest, means=means, quats=quats)

            place, remarks = following, ()
        cameras, facts, assumed = method_cameras(wanted, given, "dreamgaussian", RADIUS)
        numbers, short = frame_numbers_of(count, wanted)
        return open_rendered(
            gaussians_drawn(place, found.root),
            files=paths,
            numbers=numbers,
            wanted=wanted,
            cameras=cameras,
            facts={"time": f"n / {count}", **facts},
            remarks=(*remarks, *short, *assumed),
        )


def _network(path: Path) -> TimeNet:
    """Return the motion network, of the width and depth in the file."""
    state = read_state(path)
    with damage(path, "not a network of SC4D", "copy it again"):
        depth = len({name.split(".")[1] for name in state if name.startswith("deformnet.")})
        width, skipped = state["deformnet.0.weight"].shape[0], len(state["deformnet.0.weight"][0])
        wide = [i for i in range(depth) if state[f"deformnet.{i}.weight"].shape[1] == width + skipped]
        net = TimeNet(width, depth, wide[0] - 1)
        net.load_state_dict(state)
    return net.requires_grad_(False)


SC4D = Sc4d()
