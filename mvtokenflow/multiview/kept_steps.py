"""Keeps the state of a sampling run after every noise level, so that an interrupt loses no more than one."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mvtokenflow.base.tensor_files import read_tensors, write_tensors

_CURE = "delete it; sampling then begins anew"


@dataclass(frozen=True)
class KeptSteps:
    """The file of a sampling run that is not finished.

    Attributes:
        path: a .safetensors file; there is none before the first level and after `drop`.
        key: of everything that the run depends on; the state of another run is not taken up.
    """

    path: Path
    key: str

    def read(self) -> tuple[int, Tensor, Tensor | None] | None:
        """Return levels done, latents and poses as `keep` was given them, on the CPU; None without a state.

        Raises:
            DataError: a damaged file.
        """
        if not self.path.is_file():
            return None
        metadata, tensors = read_tensors(self.path, "damaged state of a sampling run", _CURE)
        if metadata.get("key") != self.key or "latents" not in tensors:
            return None
        return int(metadata["levels"]), tensors["latents"], tensors.get("pose")

    def keep(self, levels: int, latents: Tensor, pose: Tensor | None) -> None:
        """Replace the state atomically by that after `levels` noise levels."""
        tensors = {"latents": latents.cpu().contiguous()}
        if pose is not None:
            tensors["pose"] = pose.cpu().contiguous()
        write_tensors(self.path, tensors, {"key": self.key, "levels": str(levels)})

    def drop(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)
