"""Full float32 precision on CUDA, in which the networks were trained and published values were measured."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision() -> Iterator[None]:
    """Disable TF32 and non-deterministic cuDNN algorithms inside the block. No effect on the CPU.

    TF32 moves I3D's logits in the third digit.
    """
    matmul = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        # enabled is False unless set: convolutions would fall back to slower ones outside cuDNN
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False, deterministic=True, benchmark=False):
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)
