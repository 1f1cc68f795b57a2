"""DreamGaussian4D as a row of a table."""

from mvtokenflow.baselines.dg4d.pipeline import fit
from mvtokenflow.baselines.dg4d.settings import preset
from mvtokenflow.baselines.rival import EXCHANGED, Rival

DG4D = Rival(
    name="dg4d",
    preset=preset,
    fit=fit,
    stages={"static-field/static": "Static field", "dynamic": "Dynamic field"},
    views={"first-frame": "First frame"},
    exchanged={
        **EXCHANGED,
        "static start": "Gaussians fitted to the prior's views of the first frame, in the place of LGM",
        "distilled frames": "three of the frames in each step, all within six; the original takes all in each",
    },
)
