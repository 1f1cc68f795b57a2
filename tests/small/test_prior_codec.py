"""The small prior's latents: exact inverses, unit variance, and what the network is told."""

import pytest
import torch
from torch import Tensor

from mvtokenflow.multiview.prior import COLOUR, NORMAL
from mvtokenflow.small.codec import BACK, FRONT, PatchCodec, measure_codec, place_planes
from mvtokenflow.small.prior import six_cameras

SIZE, PATCH, VIEWS = 16, 4, 6


def pictures(count: int, seed: int = 0) -> Tensor:
    """(2, count, 6, 3, 16, 16) of multiples of 1/255."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (2, count, VIEWS, 3, SIZE, SIZE), generator=generator).float() / 255


@pytest.fixture
def codec() -> PatchCodec:
    return measure_codec([pictures(5), pictures(3, seed=1)], six_cameras(SIZE), PATCH)


def test_decode_inverts_encode_where_the_picture_is_unknown(codec: PatchCodec) -> None:
    given = pictures(2, seed=2)
    front = given[COLOUR, :, FRONT]
    back = codec.decode(codec.encode(given, front), front)
    assert codec.encode(given, front).shape == (2, 2, VIEWS, 48, 4, 4)
    torch.testing.assert_close(back, given, atol=1e-6, rtol=0)


def test_front_colour_is_the_input_whatever_the_latents(codec: PatchCodec) -> None:
    given = pictures(2, seed=2)
    front = pictures(2, seed=3)[COLOUR, :, FRONT]
    latents = codec.encode(given, front)
    assert (latents[COLOUR, :, FRONT] == 0).all()
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(codec.decode(noise, front)[COLOUR, :, FRONT], front)


def test_zero_latents_are_input_mirrored_input_and_mean_pictures(codec: PatchCodec) -> None:
    front = pictures(2, seed=3)[COLOUR, :, FRONT]
    base = codec.decode(torch.zeros(2, 2, VIEWS, 48, 4, 4), front)
    assert torch.equal(base[COLOUR, :, FRONT], front)
    assert torch.equal(base[COLOUR, :, BACK], front.flip(-1))
    for domain, view in ((NORMAL, FRONT), (NORMAL, BACK), (COLOUR, 1), (COLOUR, 5)):
        torch.testing.assert_close(base[domain, 1, view], codec.means[domain, view])


def test_measured_codec_gives_unit_variance_and_the_mean_of_all_batches(codec: PatchCodec) -> None:
    every = torch.cat((pictures(5), pictures(3, seed=1)), dim=1)
    torch.testing.assert_close(codec.means, every.mean(dim=1), atol=1e-6, rtol=0)
    latents = codec.encode(every, every[COLOUR, :, FRONT])
    power = latents.square().mean(dim=(1, 3, 4, 5))
    expected = torch.ones(2, VIEWS)
    expected[COLOUR, FRONT] = 0
    torch.testing.assert_close(power, expected, atol=1e-4, rtol=0)


def test_condition_shows_the_input_mirrored_at_the_back(codec: PatchCodec) -> None:
    front = pictures(2, seed=3)[COLOUR, :, FRONT]
    condition = codec.condition(front)
    assert condition.shape == (2, 2, VIEWS, codec.condition_channels, 4, 4)
    shown = torch.nn.functional.pixel_shuffle(condition[..., :48, :, :], PATCH)
    for domain in (NORMAL, COLOUR):
        for view in range(VIEWS):
            expected = front.flip(-1) if view == BACK else front
            torch.testing.assert_close(shown[domain, :, view], 2 * expected - 1)


def test_places_tell_every_patch_of_every_view_and_domain_apart() -> None:
    places = place_planes(six_cameras(SIZE), PATCH).movedim(2, -1).flatten(0, 3)
    assert torch.unique(places.round(decimals=4), dim=0).shape[0] == 2 * VIEWS * 4 * 4
    assert places.abs().max() <= 1


def test_a_codec_of_wrong_shapes_is_refused(codec: PatchCodec) -> None:
    with pytest.raises(ValueError, match="multiple of 5"):
        PatchCodec(means=codec.means, scales=codec.scales, places=codec.places, patch=5)
    with pytest.raises(ValueError, match="do not fit"):
        PatchCodec(means=codec.means, scales=codec.scales[:, :5], places=codec.places, patch=PATCH)


def test_the_type_follows_the_network(codec: PatchCodec) -> None:
    front = pictures(1)[COLOUR, :, FRONT].double()
    double = codec.to("cpu", torch.float64)
    assert double.condition(front).dtype == torch.float64
    assert double.decode(torch.zeros(2, 1, VIEWS, 48, 4, 4, dtype=torch.float64), front).dtype == torch.float64
