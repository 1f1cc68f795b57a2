"""Compiled CPU kernels of the rasterizer, and the readable reference they are tested against."""
