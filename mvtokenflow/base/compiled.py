"""Compiled functions, and the folder that caches their machine code between runs."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba import njit

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import cache_root

Decorator = Callable[[Callable[..., Any]], Any]


def compiled(**options: Any) -> Decorator:
    """Decorate a function with Numba's `njit` and `options`, with its machine code cached where possible.

    Numba looks for a place in `NUMBA_CACHE_DIR`, beside the source file and in the user's cache folder. Where
    none is writable (a package installed read-only, a user without a home) the cache folder of this project is
    used, and where that is not writable either, every process compiles anew.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # no writable place
            pass
        settings = vars(numba.config)  # its type stubs lack what it reads from the environment
        before = settings["CACHE_DIR"]
        try:
            settings["CACHE_DIR"] = str(cache_root() / "compiled")  # read now, not at compilation
            return njit(cache=True, **options)(function)
        except (RuntimeError, ConfigError):
            return njit(**options)(function)
        finally:
            settings["CACHE_DIR"] = before

    return decorate


def code_folder() -> Path | None:
    """Return the folder of the machine code of functions in this file; None where there is none."""
    folder = getattr(vars(_probe)["_cache"], "cache_path", None)
    return None if folder is None else Path(os.fspath(folder))


@compiled()
def _probe() -> int:
    return 0
