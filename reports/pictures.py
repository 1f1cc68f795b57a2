"""Pictures of a site: lossless WebP, reduced if large, one file per distinct picture."""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mvtokenflow.base.errors import DataError
from mvtokenflow.media.pictures import MAX_PICTURE_PIXELS

Bytes = NDArray[np.uint8]
EIGHT_BIT = {"1", "L", "LA", "P", "PA", "RGB", "RGBA"}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture in the site: its file name and size, and the size it had before it was reduced (w, h)."""

    name: str
    size: tuple[int, int]
    source_size: tuple[int, int]


class PictureStore:
    """Copies pictures into `folder`; files are named by their pixels, so equal pictures are stored once.

    Args:
        folder: where the files go; made when the first picture comes.
        max_size: pictures with a longer side are reduced (Lanczos) so that it has this many pixels.
        earlier: the same folder of an earlier build; pictures found there are copied, not encoded again.
    """

    def __init__(self, folder: Path, max_size: int, earlier: Path | None = None) -> None:
        if max_size < 1:
            raise ValueError(f"max_size is {max_size}; a picture has at least 1 pixel")
        self.folder = folder
        self.max_size = max_size
        self.earlier = earlier

    def add(self, source: Path) -> Picture:
        """Store the picture of `source`, transparency composited on white.

        Raises:
            DataError: not there, not a whole picture, or not 8 bits a channel.
        """
        pixels, source_size = self._read(source)
        return self._keep(pixels, source_size)

    def add_pixels(self, pixels: Bytes) -> Picture:
        """Store (H, W, 3) uint8 as it is, whatever its size."""
        picture = Image.fromarray(np.ascontiguousarray(pixels))
        return self._keep(picture, picture.size)

    def pixels(self, source: Path) -> Bytes:
        """Read a picture (H, W, 3) at its own size, on white. Raises as `add`."""
        return _on_white(self._opened(source))

    def _keep(self, pixels: Image.Image, source_size: tuple[int, int]) -> Picture:
        header = f"{pixels.width}x{pixels.height} RGB ".encode()
        name = hashlib.sha256(header + pixels.tobytes()).hexdigest()[:20] + ".webp"
        target = self.folder / name
        if not target.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            before = self.earlier / name if self.earlier else None
            if before is not None and before.is_file():
                shutil.copyfile(before, target)
            else:
                # A quarter of the time of Pillow's default effort (4, 80) for files 3 to 6 % larger.
                pixels.save(target, "WEBP", lossless=True, method=2, quality=30)
        return Picture(name=name, size=pixels.size, source_size=source_size)

    def _read(self, source: Path) -> tuple[Image.Image, tuple[int, int]]:
        pixels = Image.fromarray(self.pixels(source))
        size, longest = pixels.size, max(pixels.size)
        if longest > self.max_size:
            width, height = (max(1, round(side * self.max_size / longest)) for side in size)
            pixels = pixels.resize((width, height), Image.Resampling.LANCZOS)
        return pixels, size

    def _opened(self, source: Path) -> Bytes:
        """Read a picture (H, W, 4) with straight alpha."""
        if not source.is_file():  # a pipe has no end
            raise DataError(f"{source}: no such file")
        try:
            with Image.open(source, formats=["PNG"]) as opened:  # frames are; others need programs to be read
                if opened.width * opened.height > MAX_PICTURE_PIXELS:
                    raise DataError(
                        f"{source}: {opened.width}x{opened.height} pixels, more than the {MAX_PICTURE_PIXELS} "
                        "that are shown; scale it down"
                    )
                if opened.mode not in EIGHT_BIT:
                    raise DataError(
                        f"{source}: mode {opened.mode} is not 8 bits a channel; save it as RGB or RGBA"
                    )
                return np.asarray(opened.convert("RGBA"))
        except FileNotFoundError as error:
            raise DataError(f"{source}: no such file") from error
        except (DataError, MemoryError):
            raise
        except Exception as error:  # Pillow's decoders raise nearly anything for a damaged file
            raise DataError(f"{source}: not a readable picture ({type(error).__name__})") from error


def _on_white(rgba: Bytes) -> Bytes:
    """Composite straight alpha (H, W, 4) over white, (H, W, 3), rounded to nearest; Pillow's is one off."""
    if (rgba[..., 3] == 255).all():
        return np.ascontiguousarray(rgba[..., :3])
    color, alpha = rgba[..., :3].astype(np.uint32), rgba[..., 3:].astype(np.uint32)
    return ((color * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
