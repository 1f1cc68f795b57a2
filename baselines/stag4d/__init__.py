"""STAG4D (Zeng et al., ECCV 2024): anchored views of all frames, distilled with several references."""
