"""Shared fixtures: one thread, no network, the pictures kept outside the repository."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# `python -m pytest` puts the checkout on sys.path, where our `datasets/` would shadow Hugging Face's.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that reaches for the network must fail at once

SHARED = Path(os.environ.get("MVTF_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference pictures and numbers that may not be redistributed; tests that need them skip without."""
    if not (SHARED / "parity").is_dir():
        pytest.skip(f"the reference pictures are not in {SHARED}; set MVTF_SHARED to their folder")
    return SHARED
