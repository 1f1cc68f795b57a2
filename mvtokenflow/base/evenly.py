"""Evenly spaced indices."""


def evenly(count: int, wanted: int) -> list[int]:
    """Choose up to `wanted` evenly spaced indices of `count`, both ends included."""
    if count <= 1 or wanted <= 1:
        return [0][:count]
    step = (count - 1) / (min(count, wanted) - 1)
    return [*(round(place * step) for place in range(min(count, wanted) - 1)), count - 1]
