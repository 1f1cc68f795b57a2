"""The result type of projection, which is the input of blending."""

from typing import NamedTuple

from torch import Tensor


class Projection(NamedTuple):
    """N Gaussians projected into C cameras; zero where a Gaussian is culled.

    Attributes:
        radii: (C, N, 2) int32, half size of the bounding box in pixels; 0 = culled.
        means2d: (C, N, 2) pixels, pixel centres at +0.5.
        depths: (C, N) camera z.
        conics: (C, N, 3) inverse 2-D covariance, packed (xx, xy, yy), 1/pixels².
        opacities: (C, N), with the antialiasing factor where that is on.
    """

    radii: Tensor
    means2d: Tensor
    depths: Tensor
    conics: Tensor
    opacities: Tensor
