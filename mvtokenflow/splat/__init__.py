"""Dynamic 3-D Gaussians and their differentiable rendering."""
