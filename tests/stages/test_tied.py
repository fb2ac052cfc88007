"""A set that is to be scored is what its model draws, and the model is near to what was trained at the site."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedsynth.data.dataset import ImageSet
from fedsynth.hospital.policy import PolicyError
from fedsynth.hospital.policy.drift import Drift
from fedsynth.hospital.policy.model import Floors
from fedsynth.stages import sample, tied
from tests.sets import make_set, tiny_params

PARAMS = tiny_params(sample={"images": 24, "batch": 8}, image={"empty_labels": ["none", "infiltrating", "extra_axial"]})


def model(seed: int = 0, params=PARAMS):
    torch.manual_seed(seed)
    return params.models["vae"].family.build(**params.image.context()).eval()


@pytest.fixture(scope="module")
def drawn() -> ImageSet:
    return sample.draw(model(), PARAMS, "vae", "abc")


def changed(of: ImageSet, place: int, value: float) -> ImageSet:
    images = np.array(of.images)
    images[place] = value
    return ImageSet(of.manifest, images)


def test_a_set_that_its_model_draws_is_let_in(drawn):
    tied.drawn(Floors(), PARAMS, model(), drawn)
    for _ in range(6):  # another batch each time
        tied.drawn(Floors(drawn="one batch"), PARAMS, model(), drawn)


def test_a_batch_is_drawn_as_it_was_within_the_set(drawn):
    parts = sample.batches(PARAMS, np.arange(24))
    assert [len(part) for part in parts] == [8, 8, 8]
    for number, part in enumerate(parts):
        again = sample.draw_batch(model(), PARAMS, drawn.labels(PARAMS.image)[part], None, 0, number)
        sample.clean(PARAMS.image, again, drawn.labels(PARAMS.image)[part], np.arange(8))
        assert np.array_equal(again, drawn.images[part])


def test_another_image_in_any_batch_is_found_by_chance_of_its_batch(drawn, monkeypatch):
    for batch in range(3):
        monkeypatch.setattr(tied.secrets, "randbelow", lambda n, batch=batch: batch)
        with pytest.raises(PolicyError, match="1 of 8 images of the set are not those"):
            tied.drawn(Floors(drawn="one batch"), PARAMS, model(), changed(drawn, 8 * batch + 3, 0.3))


@pytest.mark.parametrize("place", range(0, 24, 5))
def test_another_image_anywhere_is_found_where_all_are_drawn_again(drawn, place):
    with pytest.raises(PolicyError, match="1 of 24 images of the set are not those"):
        tied.drawn(Floors(), PARAMS, model(), changed(drawn, place, 0.3))


@pytest.mark.parametrize("how", ["other weights", "other seed", "five copies"])
def test_a_set_of_another_model_or_seed_is_refused(drawn, how):
    family, params, sent = model(), PARAMS, drawn
    if how == "other weights":
        family = model(1)
    elif how == "other seed":
        params = PARAMS.model_copy(update={"seed": 2})
    else:
        sent = ImageSet(drawn.manifest, np.repeat(np.array(drawn.images[:1]), 24, axis=0))
    with pytest.raises(PolicyError) as error:
        tied.drawn(Floors(), params, family, sent)
    assert error.value.rule == "floors.drawn"
    tied.drawn(Floors(drawn="no"), params, family, sent)


def test_a_little_rounding_of_another_processor_is_no_difference(drawn):
    rng = np.random.default_rng(0)
    rounded = ImageSet(drawn.manifest, np.array(drawn.images) + rng.normal(0, 1e-3, drawn.images.shape))
    tied.drawn(Floors(), PARAMS, model(), rounded)


def test_given_channels_come_with_the_set(tmp_path):
    params = tiny_params(
        image={"given": ["t2"], "empty_labels": ["none", "infiltrating", "extra_axial"]},
        sample={"images": 24, "batch": 8},
    )
    given, family = make_set(tmp_path, params, n=30), model(0, params)
    made = sample.draw(family, params, "vae", "abc", given)
    tied.drawn(Floors(), params, family, made)
    with pytest.raises(PolicyError):
        tied.drawn(Floors(), params, family, changed(made, slice(None), 0.3))


def kept(folder, family) -> dict[str, np.ndarray]:
    """A training whose last round has moved every number by a tenth of their mean."""
    arrays = {name: p.detach().numpy() for name, p in family.named_parameters()}
    moved = {name: np.full_like(a, 0.1 * np.abs(a).mean() + 1e-3) for name, a in arrays.items()}
    Drift(Floors(), folder / "vae-abc.global.safetensors", dict, 0.0).sent(arrays, moved, 4)
    return arrays


def test_a_model_that_was_trained_here_is_near(tmp_path):
    arrays = kept(tmp_path, model())
    tied.trained(Floors(), tmp_path, "vae-", arrays)
    tied.trained(Floors(), tmp_path, "vae-", {name: a + 0.1 * np.abs(a).mean() for name, a in arrays.items()})
    own = {f"north/{name}": np.zeros(3, np.float32) for name in ("a", "b")}
    tied.trained(Floors(), tmp_path, "vae-", arrays | own)  # and each site's own parameters


@pytest.mark.parametrize("harm", ["other", "scaled", "absent", "other network", "one number"])
def test_a_model_that_was_not_trained_here_is_refused(tmp_path, harm):
    arrays = kept(tmp_path, model())
    if harm == "other":
        arrays = {name: 9 * p.detach().numpy() for name, p in model(1).named_parameters()}
    elif harm == "scaled":
        arrays = {name: 30 * a for name, a in arrays.items()}
    elif harm == "other network":
        arrays = {f"x.{name}": a for name, a in arrays.items()}
    elif harm == "one number":
        name = next(iter(arrays))
        arrays[name] = arrays[name].copy()
        arrays[name].flat[0] = 1e6
    else:
        (tmp_path / "vae-abc.global.safetensors").unlink()
    with pytest.raises(PolicyError) as error:
        tied.trained(Floors(), tmp_path, "vae-", arrays)
    assert error.value.rule == "floors.trained"
    tied.trained(Floors(trained=False), tmp_path, "vae-", arrays)
