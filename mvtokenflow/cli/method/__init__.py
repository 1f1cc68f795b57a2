"""The commands of `mvtf`."""
