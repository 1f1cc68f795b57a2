"""Reports the state of each network of the ledger on this machine, for `doctor`."""

from collections.abc import Iterable

from mvtokenflow.base.machine import Check
from mvtokenflow.weights.ledger import Status, variable


def check_of(state: Status) -> Check:
    """Check one network: whether it is here, what needs it, its size, source and licence, how to get it."""
    weights, ready = state.weights, state.state == "ready"
    size = f"{weights.bytes / 1e6:,.0f} MB"
    if weights.shipped is not None:
        get = "reinstall mvtokenflow"
    else:
        get = (
            f"mvtf-eval weights fetch {weights.name}; without network, mvtf-eval weights pack it on another "
            f"machine or set {variable(weights.name)}"
        )
    return Check(
        name=f"weights {weights.name}",
        ok=ready,
        found=f"{state.state}, for {', '.join(weights.uses)}; {size}, {weights.address}; "
        f"licence: {weights.licence}",
        fix="" if ready else get,
    )


def checks_of(states: Iterable[Status], preset: str | None = None) -> list[Check]:
    """Check the networks of a preset and of options of `mvtf run`, or all where no preset is given."""
    wanted = (s for s in states if preset is None or preset in s.weights.presets or s.weights.commands)
    return [check_of(state) for state in wanted]
