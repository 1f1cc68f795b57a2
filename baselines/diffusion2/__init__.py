"""Diffusion² (Yang et al., ICLR 2025): views and frames denoised as one matrix by two models, then a 4D fit."""
