"""Types shared by the settings of flow."""

from typing import Literal

Interpolation = Literal["bilinear", "nearest"]
