"""Computations that metrics use: networks, compiled loops, flow, silhouettes, backgrounds."""
