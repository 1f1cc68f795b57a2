"""SC4D (Wu et al., ECCV 2024): control points first, then fine Gaussians that follow them."""
