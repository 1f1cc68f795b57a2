"""The arithmetic of the networks on CUDA: full float32, for they were trained and are quoted in it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision() -> Iterator[None]:
    """Neither TF32 nor run-to-run choices of algorithm on CUDA, whatever the caller has set; CPU is as ever.

    TF32 moves I3D's logits in the third digit.
    """
    matmul = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        # enabled is False unless said: convolutions would fall back to slower ones outside cuDNN
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False, deterministic=True, benchmark=False):
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)
