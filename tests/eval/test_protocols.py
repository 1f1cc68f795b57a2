"""Protocols are frozen data whose signatures tell apart everything that can move a value."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields, replace
from types import ModuleType
from typing import Any, get_args, get_type_hints

import pytest

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.datasets.layout import AZIMUTHS_DEG
from mvtokenflow.eval import protocols
from mvtokenflow.eval.metrics.clip import ClipCosine
from mvtokenflow.eval.metrics.fvd import FvdSet
from mvtokenflow.eval.metrics.psnr import Psnr
from mvtokenflow.eval.metrics.spec import MetricSpec
from mvtokenflow.eval.metrics.warp import WarpError
from mvtokenflow.eval.protocols import BETWEEN, INPUT, NOVEL, PROTOCOLS, Protocol, protocol_named, readings
from mvtokenflow.eval.score.units import Settings
from mvtokenflow.weights.entries import WEIGHTS

KINDS = [
    kind
    for kind in vars(protocols).values()
    if isinstance(kind, type) and issubclass(kind, MetricSpec) and kind is not MetricSpec
]
# Where a value is measured and whether it can be: these are in the record of a row, not in its signature.
PLACES = {"views", "weights"}


def other_values(kind: type[MetricSpec], name: str, value: Any) -> Iterator[Any]:
    """Every other choice of a field, or a different number or word."""
    choices = [choice for choice in get_args(get_type_hints(kind)[name]) if not isinstance(choice, type)]
    if choices:
        yield from (choice for choice in choices if choice != value)
    elif isinstance(value, str):
        yield value + "x"
    else:
        yield (value or 0) + 1


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_that_can_move_a_value_is_in_the_signature(kind: type[MetricSpec]) -> None:
    spec = kind(key="metric")
    checked = 0
    for field in fields(kind):
        if field.name in PLACES:
            continue
        for value in other_values(kind, field.name, getattr(spec, field.name)):
            assert replace(spec, **{field.name: value}).signature() != spec.signature(), field.name
            checked += 1
    assert checked >= 2 - (len(fields(kind)) == len(fields(MetricSpec)))


def test_protocols_and_specs_are_frozen() -> None:
    protocol = PROTOCOLS["c4d-v1"]
    with pytest.raises(FrozenInstanceError):
        protocol.size = 256  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        protocol.metrics[0].version = 2  # type: ignore[misc]
    with pytest.raises(TypeError):
        PROTOCOLS["mine"] = protocol  # type: ignore[index]


def test_signatures_are_unique_over_all_protocols_and_names_are_versioned() -> None:
    signatures = [p.signature(spec) for p in PROTOCOLS.values() for spec in p.metrics]
    assert len(signatures) == len(set(signatures))
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert name.rpartition("-v")[2].isdigit()
        keys = [spec.key for spec in protocol.metrics]
        assert len(keys) == len(set(keys)), "records are told apart by key"


@pytest.mark.parametrize(
    "change", [{"name": "other-v1"}, {"size": 256}, {"size": None}, {"first_frames": 30}], ids=str
)
def test_a_protocols_own_fields_are_in_the_signature(change: dict[str, Any]) -> None:
    base = PROTOCOLS["c4d-v1"]
    assert replace(base, **change).signature(Psnr()) != base.signature(Psnr())


def test_weights_and_compositing_are_in_the_signature_of_a_row() -> None:
    base = PROTOCOLS["c4d-v1"]
    lpips = next(spec for spec in base.metrics if spec.key == "lpips")

    def signature(sha: str, composite: bool) -> str:
        settings = Settings(protocol=base, specs=(lpips,), weights_sha={"lpips-vgg": sha})
        return settings.signature(lpips, composite)

    assert len({signature("a" * 64, False), signature("b" * 64, False), signature("a" * 64, True)}) == 3
    assert "|w:aaaaaaaa" in signature("a" * 64, False)
    assert "rgba-on-white" in signature("a" * 64, True)


def test_views_of() -> None:
    c4d, refview = PROTOCOLS["c4d-v1"], PROTOCOLS["refview-v1"]
    front = PROTOCOLS["diffusion2-25f-front-v1"]
    views = (*AZIMUTHS_DEG, "input")
    assert c4d.views_of(c4d.metrics[0], views) == tuple(AZIMUTHS_DEG)
    assert refview.views_of(refview.metrics[0], views) == ("input",)
    assert front.views_of(front.metrics[0], views) == ("input", *AZIMUTHS_DEG)
    assert c4d.views_of(c4d.metrics[0], ("input", "left", "right")) == ("left", "right"), "by role, not by name"
    between = next(spec for spec in refview.metrics if spec.needs == "views")
    assert refview.views_of(between, views)[0] == "input", "consistency is measured from the input view"


def test_a_place_holds_the_views_that_stand_so_in_records() -> None:
    for views, place in ((("input",), INPUT), (("eval_0", "left"), NOVEL), (("*",), BETWEEN)):
        assert [view for view in ("input", "eval_0", "left", "*") if view in place] == list(views)
    spec = {spec.key: spec for spec in PROTOCOLS["toy4d-v2"].metrics}
    places = PROTOCOLS["toy4d-v2"].places_of
    assert places(spec["psnr"]) == (NOVEL, INPUT)
    assert places(spec["clip_views"]) == (BETWEEN,)
    front = PROTOCOLS["diffusion2-25f-front-v1"]
    assert set(front.places_of(front.metrics[0])) == {INPUT, NOVEL}


def test_moments_name_the_frames_a_value_belongs_to() -> None:
    frames = [3, 4, 5, 9]
    assert Psnr().moments(frames) == frames
    assert WarpError().moments(frames) == [3, 4, 5]
    assert WarpError(gap=2).moments(frames) == [3, 4]
    assert FvdSet().moments(frames) == [None]


def test_names_are_suggested() -> None:
    assert protocol_named("toy4d-v1") is PROTOCOLS["toy4d-v1"]
    with pytest.raises(ConfigError, match=r"no protocol 'c4d-fixd-v1'\. Did you mean 'c4d-fixed-v1'\?"):
        protocol_named("c4d-fixd-v1")


def test_listing_protocols_imports_no_heavy_package() -> None:
    heavy = ("torch", "numba", "scipy", "diffusers", "cv2", "PIL", "av")
    code = f"import sys, mvtokenflow.eval.protocols; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of somebody else, `outside`."""
    module = ModuleType("outside")
    monkeypatch.setitem(sys.modules, "outside", module)
    return module


def test_a_protocol_of_your_own_is_named_by_its_place(outside: ModuleType) -> None:
    own = replace(PROTOCOLS["c4d-v1"], name="own-v1")
    vars(outside)["OWN"] = own
    assert protocol_named("outside:OWN") is own
    vars(outside)["OWN"] = PROTOCOLS["c4d-v1"]
    assert protocol_named("outside:OWN") is PROTOCOLS["c4d-v1"]
    assert not protocols.is_catalogued("outside:OWN")
    assert protocols.is_catalogued("c4d-v1")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"size": 256}, "its name is that of the published c4d-v1, which it is not"),
        ({"name": "../own"}, "leads to another folder"),
        ({"name": "own-v1", "metrics": (Psnr(), Psnr(cap=None))}, "two of its metrics have the key 'psnr'"),
        ({"name": "own-v1", "metrics": ("psnr",)}, "'psnr' among its metrics is no MetricSpec"),
        ({"name": "own-v1", "metrics": (Psnr(key="a/b"),)}, "the key of a Psnr is a name"),
    ],
)
def test_a_protocol_of_your_own_that_cannot_be_used_is_refused(
    outside: ModuleType, change: dict[str, Any], sentence: str
) -> None:
    vars(outside)["OWN"] = replace(PROTOCOLS["c4d-v1"], **change)
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        protocol_named("outside:OWN")
    vars(outside)["OWN"] = {"name": "own"}
    with pytest.raises(ConfigError, match="it is a dict; name a Protocol"):
        protocol_named("outside:OWN")
    with pytest.raises(ConfigError, match="cannot import outside:GONE"):
        protocol_named("outside:GONE")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_metric_has_the_method_of_what_it_needs_and_no_other(kind: type[MetricSpec]) -> None:
    for needs in ("frame", "clip", "views", "set"):
        own = getattr(kind, f"measure_{needs}") is not getattr(MetricSpec, f"measure_{needs}")
        assert own == (kind.needs == needs), needs


def test_the_second_protocol_of_toy4d_adds_the_small_clip_and_changes_nothing() -> None:
    first, second = PROTOCOLS["toy4d-v1"], PROTOCOLS["toy4d-v2"]
    added = [spec for spec in second.metrics if spec not in first.metrics]
    assert second.metrics == (*first.metrics, *added)
    assert [spec.key for spec in added] == ["clip_toy", "clip_toy_views"]
    assert replace(second, name=first.name, summary=first.summary, metrics=first.metrics) == first


def test_the_small_clip_never_goes_by_the_name_of_openais() -> None:
    specs = [spec for p in PROTOCOLS.values() for spec in p.metrics if isinstance(spec, ClipCosine)]
    for spec in specs:
        small = spec.key.startswith("clip_toy")
        assert spec.weights == ("clip-toy4d" if small else "clip-vit-b32-openai")
        assert spec.model == ("toy4d-small" if small else "ViT-B-32")
        assert spec.key in WEIGHTS[spec.weights].metrics


@pytest.mark.parametrize("base", PROTOCOLS.values(), ids=lambda protocol: protocol.name)
def test_each_reading_departs_in_one_metric_only(base: Protocol) -> None:
    table = readings(base)
    labels = [label for label, _ in table]
    assert len(set(labels)) == len(labels)
    own = {spec.key: spec for spec in base.metrics}
    for label, protocol in table:
        (spec,) = protocol.metrics
        assert label.startswith(f"{spec.key}: ")
        assert spec.key in own
        differs = spec != own[spec.key]
        assert not (differs and protocol.size != base.size), "one departure at a time"
    for key in own.keys() & {"psnr", "ssim", "lpips", "fvd_c4d"}:
        same = [p for _, p in table if p.metrics[0] == own[key] and p.size == base.size]
        assert same or key == "psnr", f"the protocol's own reading of {key} is among them"


def test_readings_of_the_published_protocol_hold_its_own_values() -> None:
    own = {
        protocol.metrics[0].key
        for _, protocol in readings(PROTOCOLS["c4d-v1"])
        if protocol.metrics[0] in PROTOCOLS["c4d-v1"].metrics
    }
    assert own == {"psnr", "ssim", "lpips", "fvd_c4d"}
