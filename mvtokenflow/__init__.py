"""MVTokenFlow: video to 4D Gaussians by multiview diffusion with token flow (ICLR 2025).

The names below are the front door; each is imported when it is first used, so that `import mvtokenflow` loads
neither torch nor anything else that is heavy.

    make_asset     a video to a field, videos of it and .ply files
    run            the method alone: a clip to a field
    MethodConfig   the method's settings; `mvtokenflow.method.config` has the presets `mini` and `paper`
    load_field     a field's file
    rasterize      the Gaussian rasterizer
    score_folder   renderings against reference pictures, as `mvtf-eval score` does
    load_values    the values of finished runs as a pandas table
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mvtokenflow.base.version import __version__ as __version__

if TYPE_CHECKING:
    from mvtokenflow.eval.records.frame import load_values
    from mvtokenflow.eval.score.folder import score_folder
    from mvtokenflow.method.asset import make_asset
    from mvtokenflow.method.config import MethodConfig
    from mvtokenflow.method.pipeline import run
    from mvtokenflow.splat.io import load_field
    from mvtokenflow.splat.rasterize import rasterize

__all__ = ["MethodConfig", "load_field", "load_values", "make_asset", "rasterize", "run", "score_folder"]

_MODULES = {
    "MethodConfig": "mvtokenflow.method.config",
    "load_field": "mvtokenflow.splat.io",
    "load_values": "mvtokenflow.eval.records.frame",
    "make_asset": "mvtokenflow.method.asset",
    "rasterize": "mvtokenflow.splat.rasterize",
    "run": "mvtokenflow.method.pipeline",
    "score_folder": "mvtokenflow.eval.score.folder",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
