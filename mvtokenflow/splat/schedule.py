"""Schedule of a training step as pure functions: learning rates and the choice of frames."""

import math
from collections.abc import Collection, Sequence

import torch

_SAME_TIME = 1e-5  # times are float32 in [0, 1]


def exponential(start: float, end: float, progress: float) -> float:
    """Interpolate log-linearly from `start` to `end` at `progress` in [0, 1] (3DGS's learning-rate decay)."""
    return float(start ** (1 - progress) * end**progress)


def log_linear(start: float, end: float, step: int, steps: int, hold: int = 0) -> float:
    """Learning rate that falls log-linearly over the steps and then stays, as 3DGS computes it.

    `exponential` differs in the last digit.

    Args:
        start, end: rates, positive. step: counted from 1. steps: of the fall, 1 or more.
        hold: while step < hold the rate is `start`; it then drops onto the fall, which has run since step 1
            (positions in SC4D's second stage).
    """
    if step < hold:
        return start
    progress = min(max(step / steps, 0.0), 1.0)
    return math.exp(math.log(start) * (1 - progress) + math.log(end) * progress)


def sample_frames(frames: int, count: int, adjacent: float, generator: torch.Generator) -> list[int]:
    """Choose the frames of one training step.

    The imbalanced sampling of the paper (A.1): with probability `adjacent` they are `count` consecutive
    frames, all windows equally likely; else any `count` different ones. The paper gives no probability.

    Args:
        frames: T, number of frames.
        count: number to choose; all of them if it is T or more.
        adjacent: probability of a window, in [0, 1].
        generator: on the CPU; two numbers are drawn from it for a window, else T + 1.

    Returns:
        ascending frame indices.
    """
    if count >= frames:
        return list(range(frames))
    if float(torch.rand((), generator=generator)) < adjacent:
        first = int(torch.randint(frames - count + 1, (), generator=generator))
        return list(range(first, first + count))
    return sorted(torch.randperm(frames, generator=generator)[:count].tolist())


def carried_pairs(pairs: Sequence[tuple[int, int]], gap: int, *, backward: bool) -> dict[tuple[int, int], int]:
    """Select the flow pairs at most `gap` frames apart for the flow loss, with their positions in `pairs`.

    Args:
        pairs: (source, target) frames. backward: also those whose target lies before the source.
    """
    return {
        (source, target): index
        for index, (source, target) in enumerate(pairs)
        if abs(target - source) <= gap and (backward or target > source)
    }


def draw_partners(
    chosen: Sequence[int], pairs: Collection[tuple[int, int]], generator: torch.Generator
) -> dict[int, int]:
    """Draw for each frame of a step one other frame that it carries flow to.

    One partner per frame, as each rendered flow costs a pass; all frames that it has a flow to are equally
    likely. `sample_frames` decides how often near frames meet.

    Args:
        chosen: the step's frames. pairs: (source, target) frames between which there is flow.
        generator: on the CPU; one number is drawn from it for a frame with several partners.

    Returns:
        positions in `chosen`, source to target; frames without a partner are left out.
    """
    partners = {}
    for here, source in enumerate(chosen):
        found = [there for there, target in enumerate(chosen) if (source, target) in pairs]
        if found:
            drawn = int(torch.randint(len(found), (), generator=generator)) if len(found) > 1 else 0
            partners[here] = found[drawn]
    return partners


def nearest_times(times: Sequence[float], others: Sequence[float]) -> list[list[int]]:
    """For each of `times`, list the positions in `others` that are nearer to it than to the rest of `times`.

    Each of `others` belongs to one time, at equal distance to the earlier one; a time without any gets the
    nearest.

    Args:
        times, others: increasing.
    """
    cells: list[list[int]] = [[] for _ in times]
    for index, other in enumerate(others):
        distances = [abs(time - other) for time in times]
        least = min(distances) + _SAME_TIME
        cells[next(n for n, distance in enumerate(distances) if distance <= least)].append(index)
    for cell, time in zip(cells, times, strict=True):
        if not cell:
            cell.append(min(range(len(others)), key=lambda index: abs(others[index] - time)))
    return cells
