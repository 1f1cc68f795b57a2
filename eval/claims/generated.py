"""What the paper says of generated videos, tested on the generated views themselves.

Enlarged attention and token propagation act on the diffusion model; a field that is fitted to its views is
smooth in time by itself and hides some of what flickers. The rows are those of `baselines.generated`. Whether
the paper starts all frames from the same noise or each from its own it does not say (Era3D's demo does the
first, its script for folders the second), so each claim is tested under both.
"""

from collections.abc import Mapping

from mvtokenflow.eval.claims.specs import Claim

_PRIMARY = ("warp",)
_GUARDS = ("psnr_novel", "lpips_novel")  # blur lowers the warp error


def _claim(key: str, title: str, says: str, where: str, part: str, row: str, against: str) -> Claim:
    return Claim(
        key=key,
        title=title,
        says=says,
        where=where,
        part=part,
        row=row,
        against=against,
        primary=_PRIMARY,
        guards=_GUARDS,
        generated=True,
    )


def _under(noise: str, prefix: str) -> list[Claim]:
    """Return the claims for one reading of the noise."""
    return [
        _claim(
            f"views-attention-{noise}",
            f"Enlarged self-attention, {noise} noise",
            "Self-attention over all time steps of a view makes the generated videos more consistent over "
            "time.",
            "section 3.1",
            f"enlarged self-attention ({noise} noise)",
            f"{prefix}+attention",
            prefix,
        ),
        _claim(
            f"views-front-{noise}",
            f"Front propagation, {noise} noise",
            "Propagating the front view's tokens along the input's flow makes the generated videos more "
            "consistent over time.",
            "section 3.1",
            f"tokens of the front view carried along estimated flow ({noise} noise)",
            f"{prefix}+front",
            f"{prefix}+attention",
        ),
        _claim(
            f"views-front-flow-{noise}",
            f"Front propagation: flow against in place, {noise} noise",
            "It is the flow that carries the front view's tokens to where they belong.",
            "section 3.1",
            f"the front view's tokens carried along flow instead of copied in place ({noise} noise)",
            f"{prefix}+front",
            f"{prefix}+front-in-place",
        ),
        _claim(
            f"views-all-{noise}",
            f"Propagation of all views, {noise} noise",
            "Propagating the tokens of all views along flow makes the generated videos more consistent over "
            "time.",
            "sections 3.3 and 4.3; figure 6",
            f"tokens of all views carried along exact flow ({noise} noise)",
            f"{prefix}+all-exact",
            f"{prefix}+attention",
        ),
        _claim(
            f"views-all-flow-{noise}",
            f"Propagation of all views: flow against in place, {noise} noise",
            "It is the flow that carries tokens to where they belong.",
            "sections 3.3 and 4.3; figure 6",
            f"tokens of all views carried along exact flow instead of copied in place ({noise} noise)",
            f"{prefix}+all-exact",
            f"{prefix}+all-in-place",
        ),
    ]


GENERATED_CLAIMS: Mapping[str, Claim] = {
    claim.key: claim
    for claim in (
        *_under("shared", "views"),
        *_under("independent", "independent-views"),
        _claim(
            "views-regeneration",
            "Regeneration",
            "Generating again with the coarse field's flow on all views makes the videos much more consistent "
            "over time.",
            "section 3.3",
            "the second pass, with tokens of all views carried along the coarse field's flow",
            "second-pass",
            "first-pass",
        ),
    )
}
