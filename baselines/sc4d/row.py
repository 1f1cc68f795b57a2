"""SC4D as a row of a table."""

from mvtokenflow.baselines.rival import EXCHANGED, Rival
from mvtokenflow.baselines.sc4d.pipeline import fit
from mvtokenflow.baselines.sc4d.settings import preset

SC4D = Rival(
    name="sc4d",
    preset=preset,
    fit=fit,
    stages={"points": "Control points", "control": "Fine Gaussians"},
    views={},
    exchanged={
        **EXCHANGED,
        "background": "distilled views are on white; the original draws white or black",
    },
)
