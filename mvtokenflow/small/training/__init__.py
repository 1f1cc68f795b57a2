"""Training of the small prior and of the small CLIP."""
