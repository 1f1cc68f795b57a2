"""Scenes: Consistent4D, the embedded toy4d benchmark, and any user folder or video."""
