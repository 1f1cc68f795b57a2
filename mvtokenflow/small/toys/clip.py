"""A training run of the small CLIP on toys: sittings, then its weights and scores.

OUT/checkpoint.pt       everything a run needs to go on bit for bit
OUT/clip.safetensors    the weights, once all steps are done
OUT/scores.json         how well they find toys (`small.toys.retrieval`)
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import write_json
from mvtokenflow.base.progress import Progress
from mvtokenflow.base.seeds import check_seed
from mvtokenflow.small.clip import SmallClipConfig, load_small_clip, save_small_clip
from mvtokenflow.small.toys.captions import ClipBatches, training_fronts, vocabulary
from mvtokenflow.small.toys.retrieval import score
from mvtokenflow.small.training.clip import SmallClipTrainer, SmallClipTraining, set_class_moments
from mvtokenflow.workdir.lock import working_in

WEIGHTS_FILE = "clip.safetensors"
SCORES_FILE = "scores.json"


def train_clip(
    out: Path,
    *,
    steps: int = 450,
    minutes: float | None = None,
    toys: int = 64,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress,
    say: Callable[[str], object],
) -> SmallClipTrainer:
    """Run one sitting of a training; the last one also writes weights and scores.

    Args:
        out: folder of the run.
        steps: of the optimiser, of the whole run.
        minutes: after which this sitting stops; None for no limit.
        toys: per step, two pictures and texts each; at least 2.
        progress: called with ("train small CLIP", done, total).
        say: called with a sentence on what took how long.

    Returns:
        the trainer; `finished` states whether a further sitting is needed.

    Raises:
        ConfigError: a number out of range.
        DataError: another process works in the folder, it belongs to another run, or a damaged checkpoint.
    """
    check_seed(seed)
    if toys < 2:
        raise ConfigError(f"--toys {toys}: a contrast needs at least 2")
    config = SmallClipConfig(vocabulary=vocabulary())
    settings = SmallClipTraining(seed=seed, steps=steps, warmup=min(40, steps // 2))
    batches = ClipBatches(seed=seed, toys=toys, size=config.image_size)
    with working_in(out):
        trainer = SmallClipTrainer(config, settings, batches, out, device)
        trainer.run(None if minutes is None else 60 * minutes, progress)
        if trainer.finished:
            _finish(trainer, batches, out, say)
    return trainer


def _finish(trainer: SmallClipTrainer, batches: ClipBatches, out: Path, say: Callable[[str], object]) -> None:
    """Write what is missing of the weights and their scores."""
    settings, weights, scores = trainer.settings, out / WEIGHTS_FILE, out / SCORES_FILE
    if not weights.exists():
        set_class_moments(trainer.model, training_fronts(settings.seed, batches.size))
        counts = {"steps": str(settings.steps), "toys": str(batches.toys), "seed": str(settings.seed)}
        save_small_clip(weights, trainer.model, counts | {"data": "toy4d training split"})
    if not scores.exists():
        began = time.monotonic()
        found = {
            "curve": trainer.curve,
            "training_seconds": round(trainer.seconds),
            **score(load_small_clip(weights)),
            "settings": {**asdict(settings), "toys": batches.toys},
        }
        write_json(scores, found)
        say(f"scored in {time.monotonic() - began:.0f} s")
