"""Texts of the command line, found by hypothesis: a value, or one sentence."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mvtokenflow.base.errors import UserError
from mvtokenflow.base.settings import overridden
from mvtokenflow.cli.eval.common import weights_paths
from mvtokenflow.eval.tables.words import seeds_named, shard_named
from mvtokenflow.method.config import preset

NUMBERS = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.text("0123456789²٣/,.-+e_ ", max_size=12),
    st.just("9" * 5000),
)
NAMES = st.one_of(st.text(max_size=20), st.text("abz.:/\\=,\0~-_ 0", max_size=12), NUMBERS)
MINI = preset("mini")
SETTING = st.sampled_from(
    [
        "seed",
        "stride",
        "flow",
        "prior",
        "sampling.steps",
        "sampling.timesteps",
        "sampling.eta",
        "square.crop_size",
    ]
)


def _is_read_or_refused(read: Callable[[], object]) -> None:
    with suppress(UserError):
        read()


@pytest.fixture
def tries(pytestconfig: pytest.Config) -> settings:
    return settings(
        max_examples=pytestconfig.getoption("--fuzz-count"),
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def test_settings(tries: settings) -> None:
    @tries
    @given(SETTING, NAMES)
    def holds(name: str, value: str) -> None:
        _is_read_or_refused(lambda: overridden(MINI, [f"{name}={value}"]))

    holds()


def test_assignments(tries: settings) -> None:
    @tries
    @given(st.lists(NAMES, max_size=3))
    def holds(texts: list[str]) -> None:
        _is_read_or_refused(lambda: overridden(MINI, texts))

    holds()


@pytest.mark.parametrize("read", [seeds_named, shard_named], ids=["seeds", "shard"])
def test_numbers(read: Callable[[str], object], tries: settings) -> None:
    @tries
    @given(NUMBERS)
    def holds(text: str) -> None:
        _is_read_or_refused(lambda: read(text))

    holds()


def test_pairs(tries: settings) -> None:
    @tries
    @given(NAMES)
    def holds(text: str) -> None:
        _is_read_or_refused(lambda: weights_paths([text]))

    holds()
