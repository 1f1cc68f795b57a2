"""The readers of the product: which file is damaged, who makes it valid, and who reads it.

Another reader is another entry of `READERS`: see "Add a reader" in CONTRIBUTING.md.
"""

from functools import partial

import reads_pictures as pictures
from worker import Reader


def _video(kind: str, codec: str, pix_fmt: str) -> Reader:
    """Of a clip in a container of FFmpeg."""
    make = partial(pictures.make_video, f"clip.{kind}", codec, pix_fmt)
    return Reader(f"video-{kind}", f"clip.{kind}", make, pictures.read_video)


READERS: tuple[Reader, ...] = (
    Reader("clip-folder", "clip/*.png", pictures.make_clip, pictures.read_clip),
    Reader("masks", "masks/*.png", pictures.make_masked, pictures.read_masked),
    Reader("segmented-masks", "masks/*.png", pictures.make_segmented, pictures.read_segmented),
    _video("gif", "gif", "rgb8"),
    _video("avi", "ffv1", "bgra"),
    Reader("dataset-angles", "scenes/*/views.json", pictures.make_scene, pictures.read_scene),
    Reader("dataset-pictures", "scenes/*/*/*.png", pictures.make_scene, pictures.read_scene),
    Reader("multiview-pictures", "views/view_*/*.png", pictures.make_views, pictures.read_views),
    Reader("multiview-normals", "views/normals/view_*/*.png", pictures.make_views, pictures.read_views),
    Reader("multiview-masks", "views/masks/view_*/*.png", pictures.make_masked_views, pictures.read_views),
    Reader("multiview-times", "views/times.json", pictures.make_views, pictures.read_views),
)
