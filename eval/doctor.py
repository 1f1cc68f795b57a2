"""Examines what this machine offers for scoring."""

import os

from mvtokenflow.base import machine
from mvtokenflow.base.errors import UserError
from mvtokenflow.base.files import expanded
from mvtokenflow.base.machine import Check
from mvtokenflow.weights import ledger as weights
from mvtokenflow.weights.needs import checks_of


def examine() -> list[Check]:
    """Look at torch, GPUs, disk, compiled code, weights and datasets; change nothing.

    Raises:
        ConfigError: a variable names a folder in the home folder of nobody.
    """
    return [
        machine.torch_here(),
        machine.accelerator(),
        machine.cuda_compiler(),
        machine.disk(weights.root(), 5),
        machine.compiled_code(),
        *checks_of(weights.status()),
        _consistent4d(),
    ]


def _consistent4d() -> Check:
    from mvtokenflow.datasets.consistent4d import find_references

    name, fix = "dataset consistent4d", "mvtf-eval datasets verify consistent4d says what to download"
    root = os.environ.get("MVTF_CONSISTENT4D")
    if not root:
        return Check(name=name, ok=False, found="MVTF_CONSISTENT4D is not set", fix=fix)
    folder = expanded(root, "MVTF_CONSISTENT4D")
    try:
        return Check(name=name, ok=True, found=str(find_references(folder)))
    except UserError as error:
        return Check(name=name, ok=False, found=str(error), fix=fix)
