"""Fields over space and time made of planes: deformations, and radiance rendered along rays."""
