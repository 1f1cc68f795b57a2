"""Thresholds of rasterization, shared by all backends; the values are gsplat 1.5's."""

ALPHA_MAX = 0.999
ALPHA_MIN = 1.0 / 255.0
TRANSMITTANCE_MIN = 1e-4
EXTENT_SIGMAS = 3.33  # distance at which an opaque Gaussian falls to 1/255
FOV_MARGIN = 0.3  # share of the half width outside the picture up to which the Jacobian is evaluated
MAX_DEGREE = 3
