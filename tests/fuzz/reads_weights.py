"""Valid weights, training settings and words of command lines, and who reads them."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import valid

if TYPE_CHECKING:
    from mvtokenflow.small.clip import SmallClipConfig
    from mvtokenflow.small.training.clip import SmallClipTrainer
    from mvtokenflow.small.training.state import TrainingState

PRIOR_SIZES = ((8, 16), (1, 2))  # channels, heads

# ---- weights and training ----


def make_prior(folder: Path, shared: Path) -> None:
    shutil.copyfile(shared / "prior.safetensors", folder / "prior.safetensors")


def read_prior(folder: Path) -> None:
    from mvtokenflow.small.prior import load_small_prior

    load_small_prior(folder / "prior.safetensors")


def _clip_config() -> "SmallClipConfig":
    from tiny import tiny_clip_config

    from mvtokenflow.small.toys.captions import vocabulary

    return tiny_clip_config(vocabulary())


def make_small_clip(folder: Path, shared: Path) -> None:
    from mvtokenflow.small.clip import SmallClip, save_small_clip

    save_small_clip(folder / "clip.safetensors", SmallClip(_clip_config()), {})


def read_small_clip(folder: Path) -> None:
    from mvtokenflow.small.clip import load_small_clip

    load_small_clip(folder / "clip.safetensors")


def _trainer(folder: Path) -> "SmallClipTrainer":
    """Of a small CLIP, with its checkpoint in `folder`."""
    from mvtokenflow.small.toys.captions import ClipBatches
    from mvtokenflow.small.training.clip import SmallClipTrainer, SmallClipTraining

    batches = ClipBatches(seed=0, toys=2, size=32)
    return SmallClipTrainer(_clip_config(), SmallClipTraining(steps=2, warmup=0), batches, folder)


def make_clip_training(folder: Path, shared: Path) -> None:
    _trainer(folder).run(None, lambda stage, done, total: None)


def read_clip_training(folder: Path) -> None:
    _trainer(folder)


def _training_state() -> "TrainingState":
    from mvtokenflow.multiview.unet import MultiviewUNet
    from mvtokenflow.small.config import small_unet_config
    from mvtokenflow.small.training.state import TrainingState

    unet = MultiviewUNet.from_config(small_unet_config(*PRIOR_SIZES))
    return TrainingState(unet, momentum=0.95, weight_decay=0.02)


def make_prior_training(folder: Path, shared: Path) -> None:
    """What `mvtf train-prior` keeps: weights, their average, the optimizer's memory, the codec."""
    from safetensors.torch import load_file

    from mvtokenflow.small.config import small_unet_config
    from mvtokenflow.small.training import state as training_state

    config, state = small_unet_config(*PRIOR_SIZES), _training_state()
    codec = {
        key: value for key, value in load_file(shared / "prior.safetensors").items() if key[:6] == "codec."
    }
    extra = {key.removeprefix("codec."): value.float() for key, value in codec.items()}
    training_state.save(folder / "checkpoint.safetensors", state, {"unet": config}, extra)


def read_prior_training(folder: Path) -> None:
    """Gone on with, and the averaged weights taken out, as `mvtf gate-prior CHECKPOINT` does."""
    from mvtokenflow.small.training import state as training_state
    from mvtokenflow.small.training.export import export

    training_state.load(folder / "checkpoint.safetensors", _training_state())
    export(folder / "checkpoint.safetensors", folder / "prior.safetensors")


def make_raft(folder: Path, shared: Path) -> None:
    import torch
    from torchvision.models.optical_flow import raft_small

    torch.manual_seed(0)
    torch.save(raft_small(weights=None).state_dict(), folder / "raft_small.pt")


def read_raft(folder: Path) -> None:
    from mvtokenflow.flow.estimate import load_estimator

    load_estimator("raft_small", folder / "raft_small.pt")


def make_clip_folder(folder: Path, shared: Path) -> None:
    """A CLIP in the layout of transformers."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    sizes = {"hidden_size": 64, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}
    vision = {**sizes, "image_size": 16, "patch_size": 8, "hidden_act": "quick_gelu"}
    config = CLIPConfig(vision_config=vision, text_config={**sizes, "vocab_size": 50}, projection_dim=8)
    CLIPModel(config).save_pretrained(folder / "clip")
    size = {"shortest_edge": 16}
    CLIPImageProcessor(size=size, crop_size=16).save_pretrained(folder / "clip")


def read_clip_folder(folder: Path) -> None:
    from mvtokenflow.eval.metrics.compute import clip

    clip.load(folder / "clip")


def make_archive(folder: Path, shared: Path) -> None:
    from mvtokenflow.weights import archive

    archive.pack(folder / "weights.tar", ["clip-toy4d"])  # shipped with the package


def make_noted(folder: Path, shared: Path) -> None:
    from mvtokenflow.weights import snapshot
    from mvtokenflow.weights.method_entries import ERA3D_SNAPSHOT

    unet = folder / "era3d" / "unet"
    unet.mkdir(parents=True)
    (unet / "config.json").write_text("{}")
    snapshot.save(snapshot.take_down(folder / "era3d", ERA3D_SNAPSHOT, "a" * 40), folder / "era3d")


def read_noted(folder: Path) -> None:
    from mvtokenflow.weights import snapshot
    from mvtokenflow.weights.method_entries import ERA3D_SNAPSHOT

    record = snapshot.recorded(folder / "era3d", ERA3D_SNAPSHOT)
    assert record is not None
    list(snapshot.faults(folder / "era3d", record, hashed=True))


def read_archive(folder: Path) -> None:
    from mvtokenflow.weights import archive

    archive.unpack(folder / "weights.tar")


def make_pickle(folder: Path, shared: Path) -> None:
    (folder / "vgg.pkl").write_bytes(valid.pickled_arrays())


def read_pickle(folder: Path) -> None:
    from mvtokenflow.weights.pickles import read_arrays

    read_arrays((folder / "vgg.pkl").read_bytes(), str(folder / "vgg.pkl"))


def make_training(folder: Path, shared: Path) -> None:
    text = "[unet]\nblock_out_channels = [16, 32]\n\n[training]\nbatch = 4\nrate = 0.003\nwarmup = 10\n"
    (folder / "prior.toml").write_text(text)


def read_training(folder: Path) -> None:
    from mvtokenflow.small.training.config import read_prior_config

    read_prior_config(folder / "prior.toml")


# ---- words of the command line ----


def make_words(text: str, folder: Path, shared: Path) -> None:
    (folder / "words.txt").write_text(text)


def _words(folder: Path) -> list[str]:
    """A command line holds any bytes but NUL."""
    return (
        (folder / "words.txt").read_bytes().replace(b"\0", b"").decode("utf-8", "surrogateescape").split("\n")
    )


def read_settings(folder: Path) -> None:
    from mvtokenflow.base.settings import overridden
    from mvtokenflow.method.config import preset

    overridden(preset("mini"), _words(folder))


def read_grid_words(folder: Path) -> None:
    from mvtokenflow.cli.eval.common import options
    from mvtokenflow.cli.eval.grid import request_of

    names = ("dataset", "methods", "scenes", "seeds", "shard", "protocol", "preset")
    given = dict(zip(names, [*_words(folder), *[""] * len(names)], strict=False))
    request_of("table1", options("cpu", 1, None), root=None, runs=folder / "runs", **given)  # type: ignore[arg-type]
