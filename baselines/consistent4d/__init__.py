"""Consistent4D (Jiang et al., ICLR 2024): a cascade of planes and interpolation between its pictures."""
