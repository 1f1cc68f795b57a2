"""Views that look like others: exchanged by wrong azimuths, or sides of a poor result."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mvtokenflow.base.errors import ProtocolError
from mvtokenflow.datasets.folder import FolderDataset
from mvtokenflow.datasets.scene import Scene
from mvtokenflow.eval.protocols import protocol_named
from mvtokenflow.eval.score.pairs import plan_scene
from mvtokenflow.eval.score.preflight import refuse_if_strict

Layout = Callable[..., Path]
PROTOCOL = protocol_named("toy4d-v2")


def folders(layout: Layout, tmp_path: Path, shown: dict[str, str]) -> tuple[Path, Scene]:
    """(prediction, reference): view `v` of the prediction is the reference's `shown[v]`, or its own."""
    reference = layout(tmp_path / "gt") / "cat"
    prediction = tmp_path / "pred"
    for view in sorted(path.name for path in reference.iterdir()):
        shutil.copytree(reference / shown.get(view, view), prediction / view)
    return prediction, FolderDataset(reference).reference("cat")


@pytest.mark.parametrize("here", [False, True])
def test_exchanged_views_are_refused_whoever_rendered_them(layout: Layout, tmp_path: Path, here: bool) -> None:
    swapped = {"eval_0": "eval_1", "eval_1": "eval_0"}
    prediction, reference = folders(layout, tmp_path, swapped)
    plan = plan_scene(reference, prediction, PROTOCOL, rendered_here=here)
    with pytest.raises(ProtocolError, match="eval_0: silhouettes match reference eval_1"):
        refuse_if_strict(plan.findings, PROTOCOL, force=False)


def test_a_side_like_the_front_is_noted_of_a_method_that_was_told_the_cameras(
    layout: Layout, tmp_path: Path
) -> None:
    prediction, reference = folders(layout, tmp_path, {"eval_0": "eval_1"})
    ours = plan_scene(reference, prediction, PROTOCOL, rendered_here=True)
    refuse_if_strict(ours.findings, PROTOCOL, force=False)
    noted = [finding for finding in ours.findings if "silhouettes match" in finding.problem]
    assert [finding.severity for finding in noted] == ["note"]
    theirs = plan_scene(reference, prediction, PROTOCOL)
    with pytest.raises(ProtocolError, match="silhouettes match"):
        refuse_if_strict(theirs.findings, PROTOCOL, force=False)


def test_a_flat_result_of_a_method_of_this_package_is_scored(layout: Layout, tmp_path: Path) -> None:
    """Its cameras are tested; to leave out what resembles its own mirror would flatter the row."""
    prediction, reference = folders(layout, tmp_path, {"eval_0": "eval_1", "eval_1": "eval_0"})
    plan = plan_scene(reference, prediction, PROTOCOL, rendered_here=True, of_package=True)
    refuse_if_strict(plan.findings, PROTOCOL, force=False)
    noted = [finding for finding in plan.findings if "silhouettes match" in finding.problem]
    assert [finding.severity for finding in noted] == ["note", "note"]
