"""What a family declares fills in the training of a model, and what is written wins."""

import subprocess
import sys

import pytest

from fedsynth.params import Block, Model, ParamsError, Training, family_defaults
from fedsynth.params.family_defaults import training_defaults

GAN, VAE = "fedsynth.families.gan.GAN", "fedsynth.families.vae.VAE"


def model(path=GAN, **training):
    return Model.model_validate({"family": {"class_path": path}, "training": {"rounds": 2} | training}).training


def test_a_gan_has_a_gans_optimiser_and_another_family_its_own():
    assert (model().betas, model().clip, model().ema) == ((0.0, 0.99), None, 0.995)
    assert (model(VAE).betas, model(VAE).clip, model(VAE).ema) == ((0.9, 0.999), 1.0, 0.99)


def test_what_is_written_wins_also_where_it_is_null():
    found = model(betas=[0.5, 0.9], clip=2.0, ema=None, lr=0.1)
    assert (found.betas, found.clip, found.ema, found.lr) == ((0.5, 0.9), 2.0, None, 0.1)


def test_a_model_that_is_made_of_objects_is_filled_in_too():
    made = Model(family=Block(class_path=GAN), training=Training(rounds=2, clip=3.0))
    assert (made.training.betas, made.training.clip) == ((0.0, 0.99), 3.0)


def test_what_a_model_says_of_itself_is_that_model():
    made = Model(family=Block(class_path=GAN), training=Training(rounds=2, ema=None))
    assert Model.model_validate(made.model_dump(mode="json")) == made


def test_a_class_that_is_not_there_has_none_and_the_mistake_is_named_elsewhere():
    assert training_defaults("fedsynth.families.gan.GNA") == training_defaults("fedsynth.nothing.GAN") == {}
    with pytest.raises(ParamsError, match="GNA"):
        Model(family=Block(class_path="fedsynth.families.gan.GNA"), training=Training(rounds=1)).family.build()


def test_a_base_in_another_file_or_in_the_same_one_passes_its_defaults_on(tmp_path, monkeypatch):
    monkeypatch.setattr(family_defaults, "PACKAGE", tmp_path)
    monkeypatch.setattr(family_defaults, "training_defaults", family_defaults.training_defaults.__wrapped__)
    (tmp_path / "one.py").write_text('class A:\n    "Doc."\n    defaults: ClassVar = {"ema": 0.5, "clip": None}\n')
    (tmp_path / "two.py").write_text(
        "from fedsynth.one import A as First\nclass B(First): pass\nclass C(B): pass\nclass D(Other): pass\n"
    )
    found = {name: family_defaults.training_defaults(f"fedsynth.two.{name}") for name in "BCD"}
    assert found == {"B": {"ema": 0.5, "clip": None}, "C": {"ema": 0.5, "clip": None}, "D": {}}


def test_reading_params_yaml_imports_no_family():
    said = f"from fedsynth.params import Block, Model, Training; Model(family=Block(class_path={GAN!r}),"
    said += " training=Training(rounds=1)); import sys; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True).stdout == "False\n"
