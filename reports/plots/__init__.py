"""Figures of measured numbers: laid out once, drawn as inline SVG for pages and by matplotlib for files."""
