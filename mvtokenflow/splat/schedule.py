"""What a training step does when: learning rates and the choice of time steps. Pure functions."""

import torch


def exponential(start: float, end: float, progress: float) -> float:
    """Log-linear interpolation from `start` to `end` at `progress` in [0, 1] (3DGS's learning-rate decay)."""
    return float(start ** (1 - progress) * end**progress)


def sample_frames(frames: int, count: int, adjacent: float, generator: torch.Generator) -> list[int]:
    """Choose the frames of one training step.

    The imbalanced sampling of the paper (A.1): with probability `adjacent` they are `count` consecutive
    frames, any window being as likely as another; else any `count` different ones. The paper gives no odds.

    Args:
        frames: T, how many there are.
        count: how many to choose; all of them if it is T or more.
        adjacent: probability of a window, in [0, 1].
        generator: of the CPU; two numbers are drawn from it for a window, T + 1 else.

    Returns:
        ascending frame indices.
    """
    if count >= frames:
        return list(range(frames))
    if float(torch.rand((), generator=generator)) < adjacent:
        first = int(torch.randint(frames - count + 1, (), generator=generator))
        return list(range(first, first + count))
    return sorted(torch.randperm(frames, generator=generator)[:count].tolist())


def adjacent_pairs(chosen: list[int]) -> list[tuple[int, int]]:
    """Positions (i, i + 1) in ascending `chosen` whose frames are neighbours in time."""
    return [(i, i + 1) for i in range(len(chosen) - 1) if chosen[i + 1] == chosen[i] + 1]
