"""Stages 1 and 3: multiview diffusion of every frame, kept consistent over time by token flow."""
