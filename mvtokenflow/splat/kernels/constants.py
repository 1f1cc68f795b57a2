"""Thresholds of rasterization, those of gsplat 1.5: all backends share them."""

ALPHA_MAX = 0.999
ALPHA_MIN = 1.0 / 255.0
TRANSMITTANCE_MIN = 1e-4
EXTENT_SIGMAS = 3.33  # where an opaque Gaussian falls to 1/255
FOV_MARGIN = 0.3  # of the half width: the Jacobian is evaluated no further outside the picture
MAX_DEGREE = 3
