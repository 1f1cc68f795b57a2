"""The small prior's noise schedule."""

from typing import Any

from diffusers import DDIMScheduler

from mvtokenflow.small.config import NOISE_LEVELS


def noise_schedule() -> Any:
    """Build the prior's schedule: squared cosine, rescaled to zero terminal SNR (Lin et al. 2023)."""
    scheduler: Any = DDIMScheduler  # diffusers has no types
    return scheduler(
        num_train_timesteps=NOISE_LEVELS,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )
