"""Manifests of runs for tests, with defaults for whatever a test does not look at."""

from typing import Any

from mvtokenflow.eval.records.rows import Manifest


def make_manifest(**fields: Any) -> Manifest:
    """Build a manifest of a native run of the method "mine" on the scene "ant" of the dataset "tiny"."""
    defaults: dict[str, Any] = {
        "dataset": "tiny",
        "method": "mine",
        "source": "native",
        "uses_truth": False,
        "scene": "ant",
        "tags": (),
        "seed": 0,
        "config": {},
        "config_hash": "a" * 64,
        "reference_root": "/data/ant",
        "views": (),
        "frames": 1,
        "prediction_digest": "b" * 64,
        "pedigree": {},
    }
    return Manifest(**{**defaults, **fields})
