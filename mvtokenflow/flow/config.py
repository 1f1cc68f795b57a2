"""Words that settings of flow use."""

from typing import Literal

Interpolation = Literal["bilinear", "nearest"]
