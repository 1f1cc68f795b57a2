"""Clips of pictures, read strictly: what is not understood is refused, never repaired."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A video of one object.

    Attributes:
        rgb: (T, H, W, 3) float32 in [0, 1], straight (not premultiplied).
        alpha: (T, H, W, 1) float32 in [0, 1].
        name: what messages call it.
    """

    rgb: Tensor
    alpha: Tensor
    name: str

    def __post_init__(self) -> None:
        if self.rgb.ndim != 4 or self.rgb.shape[-1] != 3 or self.alpha.shape != (*self.rgb.shape[:-1], 1):
            raise ValueError(
                f"clip {self.name}: rgb must be (T, H, W, 3) and alpha (T, H, W, 1), got "
                f"{tuple(self.rgb.shape)} and {tuple(self.alpha.shape)}"
            )

    def __len__(self) -> int:
        return int(self.rgb.shape[0])

    def on_background(self, value: float = 1.0) -> Tensor:
        """(T, H, W, 3) composited over a constant grey `value` in [0, 1]; 1 is white."""
        return self.rgb * self.alpha + value * (1 - self.alpha)
