"""Choice of the torch device by name."""

AUTO = "auto"


def resolve_device(device: str) -> str:
    """Return `device`; "auto" becomes "cuda" if torch finds a GPU, else "cpu"."""
    if device != AUTO:
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
