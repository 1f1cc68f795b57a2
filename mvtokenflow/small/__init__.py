"""The small multiview prior and the small CLIP that ship with the package."""
