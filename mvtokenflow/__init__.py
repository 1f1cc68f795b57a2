"""MVTokenFlow: video to 4D Gaussians by multiview diffusion with token flow (ICLR 2025)."""

__version__ = "0.1.0"
