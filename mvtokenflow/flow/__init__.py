"""Optical flow: tensor operations, estimators, flow between frames of a clip and from frames to keyframes."""
