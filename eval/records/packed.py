"""Averages of a run in little memory: the numbers, and a form that it shares with runs of the same kind."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mvtokenflow.eval.records import checks as record_checks
from mvtokenflow.eval.records.rows import Means, ViewMean

_FLOATS = "<f8"  # NaN stands for a mean that does not exist

# Number of the object, view, number of frames, signatures.
_Place = tuple[int, str, int, frozenset[str]]
FormJson = Sequence[Sequence[object]]


@dataclass(frozen=True, eq=False)
class Form:
    """What averages are of.

    Attributes:
        places: by metric the place of its first number, and what each of its numbers is of.
        count: of numbers.
    """

    places: Mapping[str, tuple[int, Sequence[_Place]]]
    count: int


class Packed(Mapping[str, Mapping[str, Mapping[str, ViewMean]]]):
    """Averages by metric, object and view (`rows.Means`), made of numbers when they are asked for.

    Args:
        objects: names.
        numbers: 64-bit floats, little-endian, in the order of the form.

    Raises:
        ValueError: not as many numbers or objects as the form has.
    """

    __slots__ = ("_form", "_numbers", "_objects")

    def __init__(self, form: Form, objects: tuple[str, ...], numbers: bytes) -> None:
        if len(numbers) != 8 * form.count:
            raise ValueError(f"{len(numbers)} bytes, not {form.count} numbers")
        highest = max((one[0] for _, places in form.places.values() for one in places), default=-1)
        if highest >= len(objects):
            raise ValueError(f"{len(objects)} objects, the form has more")
        self._form, self._objects, self._numbers = form, objects, numbers

    def __getitem__(self, metric: str) -> Mapping[str, Mapping[str, ViewMean]]:
        start, places = self._form.places[metric]
        values = np.frombuffer(self._numbers, _FLOATS, len(places), 8 * start).tolist()
        found: dict[str, dict[str, ViewMean]] = {}
        for value, (number, view, frames, signatures) in zip(values, places, strict=True):
            one = ViewMean(None if math.isnan(value) else value, frames, signatures)
            found.setdefault(self._objects[number], {})[view] = one
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._form.places)

    def __len__(self) -> int:
        return len(self._form.places)


def packed(means: Means) -> tuple[FormJson, list[str], bytes]:
    """Return the form of averages as JSON, their objects, and their numbers; see `form_of`."""
    objects = sorted({name for of_metric in means.values() for name in of_metric})
    numbers: list[float] = []
    form = []
    for metric, of_metric in means.items():
        places = [
            [objects.index(name), view, one.frames, sorted(one.signatures)]
            for name, views in of_metric.items()
            for view, one in views.items()
        ]
        numbers += [
            math.nan if one.value is None else one.value
            for views in of_metric.values()
            for one in views.values()
        ]
        form.append([metric, places])
    return form, objects, np.array(numbers, _FLOATS).tobytes()


def form_of(fields: FormJson) -> Form:
    """Read what `packed` wrote; raise a ValueError if it is damaged."""
    places: dict[str, tuple[int, Sequence[_Place]]] = {}
    count = 0
    for metric, entries in fields:
        record_checks.text(metric, "metric")
        of_metric = [_place(*entry) for entry in entries]  # type: ignore[attr-defined]
        places[str(metric)] = count, of_metric
        count += len(of_metric)
    return Form(places, count)


def _place(number: object, view: str, frames: object, signatures: Sequence[str]) -> _Place:
    if view != "*":
        record_checks.name(view, "view")
    for value, least in ((number, 0), (frames, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError("not a mean")
    assert isinstance(number, int)
    assert isinstance(frames, int)
    return number, view, frames, frozenset(map(str, signatures))
