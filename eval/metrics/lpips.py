"""LPIPS: distance of two pictures in the features of VGG16 or AlexNet."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from mvtokenflow.eval.metrics.spec import Better, MetricSpec, Networks, Picture

if TYPE_CHECKING:
    from mvtokenflow.eval.metrics.compute.lpips import LpipsNetwork


@dataclass(frozen=True, kw_only=True)
class Lpips(MetricSpec):
    """LPIPS v0.1; `scale` is the input range the network is fed."""

    better: ClassVar[Better] = "lower"
    digits: ClassVar[int] = 4
    floor: ClassVar[float | None] = 1e-5
    key: str = "lpips"
    weights: str | None = "lpips-vgg"
    net: Literal["vgg", "alex"] = "vgg"
    scale: Literal["-1..1", "0..1"] = "-1..1"

    def measure_frame(self, rendering: Picture, reference: Picture, networks: Networks) -> float:
        network = self.network(networks)
        ours, theirs = (picture.kept(self, network.features) for picture in (rendering, reference))
        return network.distance(ours, theirs)

    def network(self, networks: Networks) -> "LpipsNetwork":
        """Return the network, which is loaded once per process."""
        return networks.get(("lpips", self.net, self.scale), lambda: self._load(networks))

    def _load(self, networks: Networks) -> "LpipsNetwork":
        from mvtokenflow.eval.metrics.compute.lpips import LpipsNetwork
        from mvtokenflow.weights.ledger import load

        name = f"lpips-{self.net}"
        return LpipsNetwork(
            self.net,
            load(name, networks.weights.get(name)),
            input_range="[-1,1]" if self.scale == "-1..1" else "[0,1]",
            device=networks.device,
        )
