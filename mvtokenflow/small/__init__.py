"""The small multiview prior and the small CLIP that are shipped in the package."""
