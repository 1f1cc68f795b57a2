"""The commands of `mvtf-eval`. Heavy imports stay inside the commands."""
