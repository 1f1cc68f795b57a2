"""The torch device that a word names."""

AUTO = "auto"


def resolve_device(device: str) -> str:
    """`device`, or for "auto" the one that is here: "cuda" if torch sees a GPU, else "cpu"."""
    if device != AUTO:
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
