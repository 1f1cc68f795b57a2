"""STAG4D as a row of a table."""

from mvtokenflow.baselines.rival import EXCHANGED, Rival
from mvtokenflow.baselines.stag4d.pipeline import fit
from mvtokenflow.baselines.stag4d.settings import preset

STAG4D = Rival(
    name="stag4d",
    preset=preset,
    fit=fit,
    stages={"fit": "Field"},
    views={"views": "Anchored views"},
    exchanged={
        **EXCHANGED,
        "references": "the input and the views at 45 and 315 degrees; the prior is not good enough from others",
        "view": "all six views of a frame are distilled together; the original draws one",
    },
)
