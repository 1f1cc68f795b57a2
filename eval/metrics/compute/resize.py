"""Resizes pictures to the size at which a protocol scores them."""

from typing import Literal

import numpy as np
from PIL import Image as PilImage

from mvtokenflow.base.errors import DataError
from mvtokenflow.eval.metrics.compute.region import Image, check_image

_FILTERS = {
    "bicubic": PilImage.Resampling.BICUBIC,
    "bilinear": PilImage.Resampling.BILINEAR,
    "lanczos": PilImage.Resampling.LANCZOS,
}


def squash(
    picture: PilImage.Image | Image,
    size: tuple[int, int],
    resample: Literal["bicubic", "bilinear", "lanczos"] = "bicubic",
) -> Image:
    """Resize to `size` = (height, width) pixels, ignoring the aspect ratio; uint8 (H, W, 3).

    Pillow's filter: antialiased when shrinking, rounded and clipped to uint8. 512x512 bicubic is what
    Consistent4D's image-level script does to both sides. A picture of the right size is returned unchanged.

    Raises:
        DataError: not an RGB picture (alpha must be composited and palettes converted before, because
            how that is done belongs to the protocol), or a size below one pixel.
    """
    height, width = size
    if height < 1 or width < 1:
        raise DataError(f"cannot resize to {width}x{height} pixels; both sides must be at least 1")
    if isinstance(picture, PilImage.Image):
        if picture.mode != "RGB":
            raise DataError(
                f"expected an RGB picture, got mode {picture.mode}; composite alpha and convert palettes first"
            )
    else:
        check_image(picture)
        picture = PilImage.fromarray(picture)
    if picture.size != (width, height):
        picture = picture.resize((width, height), _FILTERS[resample])
    return np.array(picture)
