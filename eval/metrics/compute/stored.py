"""Features of reference pictures, kept on disk from one command to the next."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mvtokenflow.base.files import atomic_path, cache_root

FOLDER = "features"  # in the cache; may be deleted


def stored_features(
    made_by: Mapping[str, Any],
    pictures: Iterable[NDArray[np.uint8]],
    compute: Callable[[], Sequence[NDArray[np.float64]]],
) -> list[NDArray[np.float64]]:
    """Return features of pictures from the cache, or compute them and keep them there.

    Args:
        made_by: JSON-able; everything besides the pictures that the features depend on. The version of torch
            is added, since another one may round differently.
        pictures: (H, W, 3) uint8, in order.
        compute: returns vectors (D,) of one length.
    """
    found = hashlib.sha256(json.dumps({**made_by, "torch": torch.__version__}, sort_keys=True).encode())
    for picture in pictures:
        found.update(str(picture.shape).encode())
        found.update(np.ascontiguousarray(picture).tobytes())
    path = cache_root() / FOLDER / f"{found.hexdigest()}.npy"
    try:
        kept = np.load(path, allow_pickle=False)
        if kept.ndim == 2 and kept.dtype == np.float64 and np.isfinite(kept).all():
            return list(kept)
    except (OSError, ValueError, EOFError):
        pass  # not there, or cut off: it is computed again
    features = np.stack([np.asarray(vector, np.float64) for vector in compute()])
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, features, allow_pickle=False)
    except OSError:
        pass  # a cache that cannot be written costs time only
    return list(features)
