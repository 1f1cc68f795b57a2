"""Choice of the torch device by name."""

AUTO = "auto"


def resolve_device(device: str) -> str:
    """Return `device`; "auto" becomes "cuda" if torch finds a GPU, else "cpu"."""
    if device != AUTO:
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def described_device(device: str) -> str:
    """Describe a device with the name of its GPU: "cpu", or for instance "cuda (NVIDIA H200)"."""
    if device == "cpu":
        return device
    import torch

    return f"{device} ({torch.cuda.get_device_name(torch.device(device))})"
