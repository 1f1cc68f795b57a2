"""Optical flow: operations on flow as tensors, estimators, flow between frames of a clip and to keyframes."""
