"""Cameras, and multiview videos of one object."""
