"""Consistent4D as a row of a table."""

from mvtokenflow.baselines.consistent4d.pipeline import fit
from mvtokenflow.baselines.consistent4d.settings import preset
from mvtokenflow.baselines.rival import EXCHANGED, Rival

CONSISTENT4D = Rival(
    name="consistent4d",
    preset=preset,
    fit=fit,
    stages={"fit": "Field"},
    exchanged={
        **EXCHANGED,
        "interpolator": "along DIS flow, in the place of RIFE",
        "sequences": "steps for interpolation are not distilled as well: the prior has no such cameras",
    },
)
