"""DreamGaussian4D (Ren et al., 2023): static Gaussians first, then planes that deform them."""
