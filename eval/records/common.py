"""What the manifests of many runs have in common, held once in memory."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from mvtokenflow.base.files import canonical_json
from mvtokenflow.eval.records.rows import Manifest

T = TypeVar("T")
# Fields of a pedigree that differ from run to run.
_OWN = ("finished",)


class Common:
    """Returns one object for all equal ones."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    def __call__(self, value: T) -> T:
        """Return the first of the equal JSON values that this was called with."""
        found: T = self._known.setdefault(canonical_json(value), value)
        return found

    def of_pedigree(self, pedigree: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a pedigree whose parts are shared."""
        own = {name: value for name, value in pedigree.items() if name in _OWN}
        rest = self({name: value for name, value in pedigree.items() if name not in _OWN})
        return {**rest, **own}

    def of_manifest(self, manifest: Manifest) -> Manifest:
        """Return a manifest whose parts are shared."""
        return replace(
            manifest,
            tags=self(manifest.tags),
            config=self(manifest.config),
            views=self(manifest.views),
            pedigree=self.of_pedigree(manifest.pedigree),
            assumed=self(manifest.assumed),
        )
