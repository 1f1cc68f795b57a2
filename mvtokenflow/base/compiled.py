"""Functions compiled on first use, and where their machine code is kept between runs."""

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
    """Decorator: Numba's `njit` with `options`; the machine code is kept where there is a place for it.

    Numba looks for one in `NUMBA_CACHE_DIR`, beside the source file and in the user's cache folder. Where none
    can be written (a package installed read-only, a user without a home) the cache folder of this project
    takes it, and where that cannot be written either, every process compiles anew.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # no place
            pass
        settings = vars(numba.config)  # its types do not know what it reads from the environment
        before = settings["CACHE_DIR"]
        try:
            settings["CACHE_DIR"] = str(cache_root() / "compiled")  # looked at now, not when it is compiled
            return njit(cache=True, **options)(function)
        except (RuntimeError, ConfigError):
            return njit(**options)(function)
        finally:
            settings["CACHE_DIR"] = before

    return decorate


def code_folder() -> Path | None:
    """Where the machine code of a function in this file is kept; None where there is no place for it."""
    folder = getattr(vars(_probe)["_cache"], "cache_path", None)
    return None if folder is None else Path(os.fspath(folder))


@compiled()
def _probe() -> int:
    return 0
