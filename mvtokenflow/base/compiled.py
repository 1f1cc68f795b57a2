"""Compiled functions, and the folder that caches their machine code between runs."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba import njit

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import cache_root, digest

Decorator = Callable[[Callable[..., Any]], Any]


def compiled(*, with_package: bool = False, **options: Any) -> Decorator:
    """Decorate a function with Numba's `njit` and `options`, with its machine code cached where possible.

    Numba looks for a place in `NUMBA_CACHE_DIR`, beside the source file and in the user's cache folder. Where
    none is writable (a package installed read-only, a user without a home) the cache folder of this project is
    used, and where that is not writable either, every process compiles anew.

    Args:
        with_package: compile anew when any file of the function's package has changed. Numba looks at the
            function's own file alone, and inlines what the function calls.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        made = _kept(function, options)
        if with_package:
            _stamp(made, Path(function.__code__.co_filename).parent)
        return made

    return decorate


def _kept(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """Compile a function with its machine code cached in the first writable folder."""
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


def _stamp(made: Any, package: Path) -> None:
    """Let kept machine code count only while the Python files of a package are these.

    Numba keeps a stamp of the source beside the code and compares it when it loads; where a release of Numba
    holds it elsewhere, code is renewed as Numba does by itself.
    """
    index = getattr(getattr(made, "_cache", None), "_cache_file", None)
    stamp = getattr(index, "_source_stamp", None)
    if index is not None and stamp is not None:
        index._source_stamp = (stamp, _sources(package))


@cache
def _sources(package: Path) -> str:
    return digest((path.name, path.read_bytes()) for path in sorted(package.glob("*.py")))


def code_folder() -> Path | None:
    """Return the folder of the machine code of functions in this file; None where there is none."""
    folder = getattr(vars(_probe)["_cache"], "cache_path", None)
    return None if folder is None else Path(os.fspath(folder))


@compiled()
def _probe() -> int:
    return 0
