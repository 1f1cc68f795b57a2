"""The training stream: random access, resumption, splits, contents."""

import pickle
from itertools import islice
from typing import cast

import numpy as np
import pytest

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.datasets.toy4d.render import render
from mvtokenflow.datasets.toy4d.stream import SIX_AZIMUTHS, Batch, Split, ToyStream, six_views
from mvtokenflow.datasets.toy4d.toys import HELD_OUT_PLAN, SEEDS, TRAINED_PLANS, make_toy


def assert_equal(a: Batch, b: Batch) -> None:
    for name in ("rgb", "alpha", "normal", "times"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.captions, a.plans, a.seeds) == (b.captions, b.plans, b.seeds)


def test_a_batch_depends_on_its_index_alone() -> None:
    stream = ToyStream(seed=3, batch_size=2, size=32)
    first = list(islice(stream, 3))
    again = ToyStream(seed=3, batch_size=2, size=32)
    assert_equal(again.batch(2), first[2])
    assert_equal(again.batch(0), first[0])
    assert_equal(next(again.iterate(1)), first[1])
    assert_equal(pickle.loads(pickle.dumps(stream)).batch(1), first[1])
    assert first[0].seeds != first[1].seeds


def test_batch_size_cuts_one_sequence() -> None:
    small = [ToyStream(seed=5, batch_size=1, size=16).batch(k).seeds[0] for k in range(6)]
    large = ToyStream(seed=5, batch_size=3, size=16)
    assert list(large.batch(0).seeds + large.batch(1).seeds) == small
    assert ToyStream(seed=6, batch_size=3, size=16).batch(0).seeds != large.batch(0).seeds


def test_contents_are_renders_of_the_named_toys() -> None:
    batch = ToyStream(seed=0, batch_size=2, times=3).batch(4)
    assert batch.rgb.shape == (2, 3, 6, 64, 64, 3)
    assert batch.alpha.shape == (2, 3, 6, 64, 64, 1)
    assert batch.normal.shape == (2, 3, 6, 64, 64, 3)
    assert [str(a.dtype) for a in (batch.rgb, batch.alpha, batch.normal)] == ["uint8", "uint8", "int8"]
    assert (np.diff(batch.times) > 0).all()
    rgb, alpha, normal = batch.floats()
    assert rgb.dtype == alpha.dtype == normal.dtype == np.float32
    for k in range(2):
        toy = make_toy(batch.plans[k], batch.seeds[k])
        assert batch.captions[k] == toy.caption
        want = render(toy, six_views(64), batch.times[k])
        np.testing.assert_allclose(rgb[k], want.rgb, atol=0.5 / 255 + 1e-6)
        np.testing.assert_allclose(alpha[k], want.alpha, atol=0.5 / 255 + 1e-6)
        np.testing.assert_allclose(normal[k], want.normal, atol=0.012)  # rounding to 1/127, then unit length
        np.testing.assert_array_equal(normal[k].any(-1), want.part >= 0)
    length = np.linalg.norm(normal, axis=-1)
    assert (np.isclose(length, 1, atol=1e-5) | (length == 0)).all()


def test_back_silhouette_is_the_mirrored_front() -> None:
    """Ortho at elevation 0: what the prior's mirrored input relies on, and the order of the six views."""
    assert list(SIX_AZIMUTHS) == [0, 45, 90, 180, 270, 315]
    alpha = ToyStream(seed=1, batch_size=4).batch(0).alpha[:, 0, ..., 0].astype(int)
    # cameras are float32: a silhouette may pass a sample of 1/4 coverage by 1e-7
    assert (alpha[:, 0] != alpha[:, 3, :, ::-1]).mean() < 1e-3
    assert (alpha[:, 2] != alpha[:, 4, :, ::-1]).mean() < 1e-3
    assert (alpha[:, 0] != alpha[:, 3]).mean() > 1e-2


def test_splits_never_meet() -> None:
    pairs: tuple[tuple[Split, Split], ...] = (("train", "validation"), ("validation", "train"))
    for split, other in pairs:
        stream = ToyStream(seed=0, batch_size=1, split=split)
        seeds = [stream.item(k)[1] for k in range(300)]
        assert all(seed in SEEDS[split] for seed in seeds)
        assert not any(seed in SEEDS[other] or seed in SEEDS["test"] for seed in seeds)
        assert len(set(seeds)) == 300


def test_plans_are_drawn_evenly_and_never_the_held_out_one() -> None:
    stream = ToyStream(seed=0, batch_size=1)
    plans = [stream.item(k)[0] for k in range(1200)]
    for plan in TRAINED_PLANS:  # 200 expected, standard deviation 13
        assert 150 < plans.count(plan) < 250
    assert HELD_OUT_PLAN not in plans


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="held out"):
        ToyStream(seed=0, batch_size=1, plans=("fish", HELD_OUT_PLAN))
    with pytest.raises(ConfigError, match="Did you mean 'fish'"):
        ToyStream(seed=0, batch_size=1, plans=("fisch",))
    with pytest.raises(ConfigError, match="at least 1"):
        ToyStream(seed=0, batch_size=0)
    with pytest.raises(ConfigError, match="splits"):
        ToyStream(seed=0, batch_size=1, split=cast(Split, "test"))
    with pytest.raises(IndexError):
        ToyStream(seed=0, batch_size=1).batch(-1)
