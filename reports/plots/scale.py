"""Axes and labels: round ticks, positions in pixels, labels that do not cover each other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

LETTER = 0.58  # mean width of a letter, as a share of the size of the text
_STEPS = (1, 2, 2.5, 5, 10)
_MINUTES = (1, 1.5, 2, 3, 4, 5, 6, 8)  # times a power of ten


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A map of values from `low` to `high` onto pixels from `start` to `end`, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log10(v) if self.logarithmic else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (at - low) / (high - low)

    def holds(self, value: float) -> bool:
        """Return whether a value is within the range."""
        return self.low <= value <= self.high

    def ticks(self, count: int) -> list[tuple[float, str]]:
        """Return about `count` round values within the range, at least two, with their texts."""
        if self.logarithmic:
            return _log_ticks(self)
        tries = (_round_ticks(self.low, self.high, more) for more in range(count, 4 * count))
        return next(found for found in tries if len(found) >= 2)


def _round_ticks(low: float, high: float, count: int) -> list[tuple[float, str]]:
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((one * power for one in _STEPS if one * power >= rough * (1 - 1e-9)), 10 * power)
    digits = max(0, -math.floor(math.log10(step) + 1e-9) + (1 if round(step / power, 6) == 2.5 else 0))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(place * step, signed(f"{place * step:.{digits}f}")) for place in range(first, last + 1)]


def _log_ticks(scale: Scale) -> list[tuple[float, str]]:
    decades = range(math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high)) + 1)
    found: list[tuple[float, str]] = []
    for value in (step * 10.0**decade for decade in decades for step in _MINUTES):
        if scale.holds(value) and (not found or scale(value) - scale(found[-1][0]) >= 30):
            found.append((value, f"{value:g}"))
    return found


def signed(text: str) -> str:
    """Return a number's text with a minus sign, and without one before zero."""
    return text.lstrip("-") if not text.strip("-0.") else text.replace("-", "−")


def text_width(text: str, size: float = 11.0) -> float:
    """Estimate the width of a text in pixels."""
    return LETTER * size * len(text)


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move positions apart, in their order, until neighbours are `gap` apart; between `low` and `high`.

    Where there is no room, the gap shrinks.
    """
    order = sorted(range(len(wanted)), key=lambda place: wanted[place])
    gap = min(gap, (high - low) / max(1, len(wanted) - 1))
    sorted_down = [wanted[place] for place in order]
    down = _pushed(sorted_down, gap, low)
    up = [-at for at in reversed(_pushed([-at for at in reversed(sorted_down)], gap, -high))]
    middle = [(one + other) / 2 for one, other in zip(down, up, strict=True)]  # of two that keep the gap
    last = high - gap * (len(order) - 1)
    found = [0.0] * len(wanted)
    for rank, place in enumerate(order):
        found[place] = min(max(middle[rank], low + gap * rank), last + gap * rank)
    return found


def _pushed(wanted: Sequence[float], gap: float, low: float) -> list[float]:
    """Move ascending positions up until neighbours are `gap` apart and the first is not below `low`."""
    placed: list[float] = []
    for at in wanted:
        placed.append(max(at, placed[-1] + gap if placed else low))
    return placed


def levels(centres: Sequence[float], widths: Sequence[float], count: int) -> list[int | None]:
    """Put labels onto levels so that none covers another, the lowest level first; None where none has room."""
    ends = [-math.inf] * count
    found: list[int | None] = [None] * len(centres)
    for place in sorted(range(len(centres)), key=lambda one: centres[one]):
        left, right = centres[place] - widths[place] / 2, centres[place] + widths[place] / 2
        free = next((level for level in range(count) if ends[level] + 4 <= left), None)
        if free is not None:
            ends[free] = right
            found[place] = free
    return found
