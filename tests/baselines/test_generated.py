"""Rows of generated views: the pictures of the method's own pass, parts that act, wrong datasets refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mvtokenflow.base.errors import DataError
from mvtokenflow.baselines import generated
from mvtokenflow.baselines.catalogue import method_named
from mvtokenflow.baselines.generated import GeneratedViews, Pass
from mvtokenflow.baselines.mvtokenflow import Native
from mvtokenflow.baselines.names import GENERATED, method_names
from mvtokenflow.datasets.scene import Scene
from mvtokenflow.datasets.toy4d.dataset import Toy4D
from mvtokenflow.datasets.toy4d.digests import EXPECTED
from mvtokenflow.datasets.toy4d.scenes import CLOCK, WILD_VIEWS, World, scene_toy
from mvtokenflow.method.config import MethodConfig, mini
from mvtokenflow.small.config import small_sampling
from mvtokenflow.splat.training_config import StageConfig

NAME = "serpent-02"
EVERY = 10  # frames of the clip: 5 are generated


def quiet(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A wild scene whose references are the prior's views of five frames."""
    world: World = replace(WILD_VIEWS, name="wild-few-views", times=(*CLOCK[:-1:EVERY], CLOCK[-1]))

    class Few(Toy4D):
        name = world.name

    Few.world = world
    EXPECTED[world.name] = {NAME: {"pixels": "", "truth": ""}}
    try:
        with pytest.warns(UserWarning, match="digests"):
            made = Few(tmp_path_factory.mktemp("few")).scene(NAME)
    finally:
        del EXPECTED[world.name]
    return made


def few_steps(steps: int = 1) -> MethodConfig:
    base = mini()
    fit = replace(
        base.reconstruction,
        static=StageConfig(iterations=1),
        coarse=StageConfig(iterations=1),
        refine=StageConfig(iterations=1),
    )
    tokens = replace(base.token_flow, interval=2, tau=1.0)
    return replace(
        base,
        stride=EVERY,
        sampling=replace(small_sampling(steps), chunk=4),
        token_flow=tokens,
        reconstruction=fit,
    )


def drawn(row: GeneratedViews | Pass, scene: Scene, folder: Path) -> dict[str, np.ndarray]:
    return {name: made.rgb for name, made in row.render(scene, 0, folder, quiet).items()}


def test_the_words_stand_for_rows_that_exist() -> None:
    assert method_names("generated") == list(GENERATED)
    assert [method_named(name).name for name in GENERATED] == list(GENERATED)
    assert {name for name in GENERATED if method_named(name).uses_truth} == {
        "views+all-exact",
        "independent-views+all-exact",
    }


def test_the_row_with_front_propagation_is_the_methods_first_pass(scene: Scene, tmp_path: Path) -> None:
    """Drawn directly and by the pipeline: equal to the rounding of the stored pictures."""
    base = few_steps()
    direct = drawn(replace(generated.VIEWS_FRONT, base=base), scene, tmp_path / "direct")
    own = Pass(name="first-pass", folder="views", whole=Native(name="mvtokenflow", base=base))
    through = drawn(own, scene, tmp_path / "through")
    assert list(direct) == list(through) == list(WILD_VIEWS.views)
    for view, pictures in direct.items():
        assert pictures.shape == (5, 64, 64, 3)
        assert np.abs(pictures.astype(int) - through[view].astype(int)).mean() < 0.75
    second = drawn(replace(own, name="second-pass", folder="regenerated"), scene, tmp_path / "through")
    assert any((second[view] != through[view]).any() for view in direct)


def test_each_part_changes_the_pictures(scene: Scene, tmp_path: Path) -> None:
    rows = [
        *(generated.VIEWS_ATTENTION, generated.VIEWS_FRONT_IN_PLACE),
        *(generated.VIEWS_ALL_EXACT, generated.VIEWS_ALL_IN_PLACE),
    ]
    made = [drawn(replace(row, base=few_steps()), scene, tmp_path / str(n)) for n, row in enumerate(rows)]
    for n, one in enumerate(made):
        for other in made[:n]:
            assert any((one[view] != other[view]).any() for view in one)
    configs = [replace(row, base=few_steps()).config() for row in rows]
    assert all(one != other for n, one in enumerate(configs) for other in configs[:n])


def test_shared_noise_makes_frames_alike(scene: Scene, tmp_path: Path) -> None:
    def flicker(row: GeneratedViews) -> float:
        made = drawn(replace(row, base=few_steps(2)), scene, tmp_path / row.name)
        return float(np.mean([np.abs(np.diff(p.astype(float), axis=0)).mean() for p in made.values()]))

    assert flicker(generated.VIEWS) < flicker(generated.INDEPENDENT_VIEWS)


def test_exact_flow_is_the_toys_own() -> None:
    flow, seen = generated.exact_flow(NAME, range(6), 64, 0.0, 0.25)
    still, all_seen = generated.still_flow(NAME, range(6), 64, 0.0, 0.25)
    assert flow.shape == still.shape == (6, 64, 64, 2)
    assert 3 < float(flow[seen].norm(dim=-1).mean()) < 20  # 2.8 tokens of 4 px
    assert not still.any()
    assert bool(all_seen.all())
    assert torch.equal(flow[seen], flow[seen].clone())
    assert scene_toy(NAME).plan == "serpent"


def test_references_that_are_not_these_views_are_refused(scene: Scene, tmp_path: Path) -> None:
    other = replace(scene, clock=None)
    with pytest.raises(DataError, match=r"serpent-02.*--dataset toy4d-views"):
        generated.VIEWS.render(other, 0, tmp_path, quiet)
    with pytest.raises(DataError, match="toy4d-wild-views"):
        replace(generated.VIEWS, base=replace(few_steps(), stride=5)).render(scene, 0, tmp_path, quiet)


def test_the_truth_is_known_of_toys_alone(scene: Scene, tmp_path: Path) -> None:
    stranger = replace(scene, name="stranger")
    with pytest.raises(DataError, match="stranger: not a toy"):
        replace(generated.VIEWS_ALL_EXACT, base=few_steps()).render(stranger, 0, tmp_path, quiet)
