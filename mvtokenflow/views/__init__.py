"""Cameras, and videos of one object seen by several of them."""
