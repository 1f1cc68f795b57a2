"""Compiled functions: machine code kept on disk is not served after a file it inlines has changed."""

import subprocess
import sys
from pathlib import Path

CALLED = """
from mvtokenflow.base.compiled import compiled


@compiled(with_package=True)
def added(x):
    return x + {number}
"""
CALLING = """
from mvtokenflow.base.compiled import compiled
from pack.called import added


@compiled(with_package=True)
def twice(x):
    return 2 * added(x)
"""
PROGRAM = "from pack.calling import twice; print(twice(1), sum(twice.stats.cache_hits.values()))"


def _run(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=folder, capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip()


def test_code_is_kept_and_renewed_when_a_called_file_changes(tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "__init__.py").write_text("")
    (pack / "called.py").write_text(CALLED.format(number=1))
    (pack / "calling.py").write_text(CALLING)
    assert _run(tmp_path) == "4 0", "compiled"
    assert _run(tmp_path) == "4 1", "read from disk"
    (pack / "called.py").write_text(CALLED.format(number=10))
    assert _run(tmp_path) == "22 0", "compiled anew"
