"""All that is wrong in params.yaml is one list, before an image is read: with key, value and the nearest name."""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from fedsynth.checks import Problem, check, of_counts, of_file, of_models, of_sites_that_train, problems
from fedsynth.checks.mending import mended
from fedsynth.checks.sizes import Sizes, Trial, multiples
from fedsynth.families.vae import VAE
from fedsynth.params import ParamsError, load
from nvflare_jobs.train import job
from tests.sets import TINY, make_set, tiny_params
from tests.tables import make_table

ROOT = Path(__file__).parents[2]
FILES = sorted(ROOT.glob("params*.yaml"))
OUT = ...  # a change that takes a key out


def changed(base: dict[str, Any] = TINY, **changes: Any) -> dict[str, Any]:
    """`changes` by key, "models.vae.training.lr"; what is not there on the way is made."""
    raw = copy.deepcopy(base)
    for key, value in changes.items():
        *above, last = key.split(".")
        at = raw
        for part in above:
            at = at.setdefault(part, {})
        if value is OUT:
            del at[last]
        else:
            at[last] = value
    return raw


def written(folder: Path, raw: dict[str, Any]) -> Path:
    (folder / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return folder / "params.yaml"


def found(folder: Path, base: dict[str, Any] = TINY, **changes: Any) -> list[Problem]:
    return of_file(written(folder, changed(base, **changes)))[1]


def of(kind: str, args: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"class_path": f"fedsynth.{kind}", "args": args or {}}


def test_a_misspelt_key_beside_the_right_one_is_one_problem(tmp_path):
    (problem,) = found(tmp_path, **{"models.vae.training.rnds": 20})
    assert problem.key == "models.vae.training.rnds"
    assert problem.said.endswith("did you mean 'rounds'?")


def test_params_without_a_mistake_have_no_problem():
    assert problems(tiny_params()) == []


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.name)
def test_no_params_file_of_the_project_has_a_problem(file):
    assert problems(load(file), source=False, given=False) == []


def test_the_default_is_checked_in_a_moment():
    params = load(ROOT / "params.yaml")
    problems(params)  # what is imported for it
    before = time.process_time()
    assert problems(params) == []
    assert time.process_time() - before < 1.5


def test_whoever_checks_gets_the_same_random_numbers_as_who_does_not():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    problems(tiny_params())
    assert torch.equal(torch.rand(3), wanted)


VAE_ARGS = "models.vae.family.args"
TRAINING = "models.vae.training"
SITES = {"north": {"images": 24}, "east": {"images": 24}}
CLASS_CASES = [
    ("models.vae.family", of("families.vae.VEA"), "did you mean 'fedsynth.families.vae.VAE'?"),
    ("models.vae.family", of("families.vea.VAE"), "did you mean 'fedsynth.families.vae.VAE'?"),
    ("models.vae.family", of("families.Family"), "there is no such family|is no family"),
    ("models.vae.algorithm", of("algorithms.fedprox.FedPorx"), "did you mean 'fedsynth.algorithms.fedprox.FedProx'?"),
    ("models.vae.privacy", of("privacy.update.UpdatePD"), "did you mean 'fedsynth.privacy.update.UpdateDP'?"),
    (
        "models.vae.encryption",
        of("privacy.update.UpdateDP"),
        "is no encryption; known under fedsynth.privacy are he.CKKS",
    ),
    ("models.vae.compression.up", of("compression.topk.TopKK"), "did you mean 'fedsynth.compression.topk.TopK'?"),
    ("source", of("sources.tabel.Table"), "did you mean 'fedsynth.sources.table.Table'?"),
    ("sample.exporters.png", of("exporters.png.PGN"), "did you mean 'fedsynth.exporters.png.PNG'?"),
    (
        "score.uses.segmentation",
        of("uses.segmentation.Segmenter"),
        "did you mean 'fedsynth.uses.segmentation.Segmentation'?",
    ),
    (
        "score.uses.vae",
        of("families.vae.VAE"),
        "is no use; known under fedsynth.uses are classification.Classification",
    ),
    ("score.features", of("features.clasifier.Classifier"), "did you mean 'fedsynth.features.classifier.Classifier'?"),
    ("score.measures.fid", of("measures.fid.FDI"), "did you mean 'fedsynth.measures.fid.FID'?"),
]


@pytest.mark.parametrize(("key", "block", "said"), CLASS_CASES, ids=[case[0] for case in CLASS_CASES])
def test_a_class_that_is_not_there_or_of_another_kind_is_named_with_the_nearest(tmp_path, key, block, said):
    (problem,) = found(tmp_path, **{key: block})
    assert (problem.key, problem.value) == (f"{key}.class_path", block["class_path"])
    assert any(one in problem.said for one in said.split("|"))


def test_the_class_of_an_operator_and_of_a_block_within_a_block_is_named_with_the_nearest(tmp_path):
    derived = {"t2": {"of": "t1", "operator": of("operators.dose.LowDos")}}
    given = {"image.given": ["t2"], "sample.given": of("sources.phantom.Phantom", {"sites": {"public": {"images": 3}}})}
    (operator,) = found(tmp_path, **{"image.derived": derived, **given})
    assert operator.key == "image.derived.t2.operator.class_path"
    assert "did you mean 'fedsynth.operators.dose.LowDose'?" in operator.said
    diffusion = of("families.latent.Latent", {"diffusion": of("families.diffusion.Difusion")})
    (inner,) = found(tmp_path, **{"models.vae.family": diffusion, f"{TRAINING}.rounds": 2})
    assert inner.key == f"{VAE_ARGS}.diffusion.class_path"
    assert "did you mean 'fedsynth.families.diffusion.Diffusion'?" in inner.said


ONE = [  # changes, key, value, what is said
    ({f"{VAE_ARGS}.latnet": 3}, f"{VAE_ARGS}.latnet", 3, "did you mean 'latent'?"),
    ({f"{VAE_ARGS}.latent": "many"}, f"{VAE_ARGS}.latent", "many", "must be a whole number"),
    ({f"{VAE_ARGS}.sigma": "1e-3"}, f"{VAE_ARGS}.sigma", "1e-3", "write 1.0e-3"),
    ({f"{VAE_ARGS}.channels": 32}, f"{VAE_ARGS}.channels", 32, "must be a list, each a whole number"),
    ({f"{VAE_ARGS}.size": [8, 8]}, f"{VAE_ARGS}.size", [8, 8], "is known from the rest of params.yaml"),
    ({f"{VAE_ARGS}.latent": -1}, f"{VAE_ARGS}.latent", -1, "must be 1 or more"),
    ({"source.args.sites": OUT}, "source.args.sites", None, "is missing, and Phantom cannot do without"),
    ({"models.vae.algorithm": of("algorithms.fedprox.FedProx", {"mu": -1})},
     "models.vae.algorithm.args.mu", -1, "at least 0"),
    (
        {"models.vae.algorithm": of("algorithms.fedopt.FedOpt", {"optimizer": "Addam", "lr": 0.01})},
        "models.vae.algorithm", "fedsynth.algorithms.fedopt.FedOpt", "did you mean 'Adam'?",
    ),
    ({"models.vae.algorithm": of("algorithms.fedopt.FedOpt", {"optimizer": "Adam"})},
     "models.vae.algorithm.args.optimizer", "Adam", "needs an lr"),
    (
        {"models.vae.algorithm": of("algorithms.fedavg.FedAvg", {"shared": "autoencoder.decode.*"})},
        "models.vae.algorithm.args.shared", "autoencoder.decode.*", "did you mean 'autoencoder.decoder.*'?",
    ),
    (
        {"models.vae.algorithm": of("algorithms.fedavg.FedAvg", {"weighting": "image"})},
        "models.vae.algorithm.args.weighting", "image", "one of images, equal, validation",
    ),
    (
        {"models.vae.algorithm": of("algorithms.mdgan.MDGAN")},
        "models.vae.algorithm", "fedsynth.algorithms.mdgan.MDGAN", "VAE cannot be parted so",
    ),
    (
        {"models.vae.algorithm": of("algorithms.oneshot.OneShot"), f"{TRAINING}.rounds": 3},
        "models.vae.algorithm", "fedsynth.algorithms.oneshot.OneShot", "training.rounds: 1, not 3",
    ),
    ({"models.vae.privacy": of("privacy.update.UpdateDP")},
     "models.vae.privacy", "fedsynth.privacy.update.UpdateDP", "epsilon is missing"),
    (
        {"models.vae.compression.up": of("compression.quantize.Quantize", {"bits": 3})},
        "models.vae.compression.up.args.bits", 3, "one of 1, 2, 4, 8",
    ),
    (
        {"models.vae.compression.up": of("compression.cast.Cast"),
         "models.vae.algorithm": of("algorithms.cyclic.Cyclic")},
        "models.vae.compression", None, "a whole cycle late",
    ),
    ({"models.vae.family": of("families.latent.Latent")}, f"{TRAINING}.rounds", 1, "trains in 2 phases"),
    ({f"{TRAINING}.lr": {"autoencodr": 0.1}}, f"{TRAINING}.lr.autoencodr", 0.1, "did you mean 'autoencoder'?"),
    (
        {"models.vae.family": of("families.gan.GAN"), f"{TRAINING}.lr": {"generator": 0.1}},
        f"{TRAINING}.lr", {"generator": 0.1}, "has no rate for discriminator",
    ),
    ({f"{TRAINING}.flip": [2]}, f"{TRAINING}.flip", [2], "the spatial axes of [16, 16] are 0, 1"),
    ({f"{TRAINING}.flip": [-1]}, f"{TRAINING}.flip", [-1], "there is no axis -1"),
    ({f"{TRAINING}.epoch": 3}, f"{TRAINING}.epoch", 3, "did you mean 'epochs'?"),
    ({f"{TRAINING}.rouns": 3, f"{TRAINING}.rounds": OUT}, f"{TRAINING}.rouns", 3, "did you mean 'rounds'?"),
    ({f"{TRAINING}.rounds": OUT}, f"{TRAINING}.rounds", None, "is missing"),
    ({f"{TRAINING}.lr": -1}, f"{TRAINING}.lr", -1, "must be greater than or equal to 0"),
    ({f"{TRAINING}.lr": "fast"}, f"{TRAINING}.lr", "fast", "must be a number"),
    ({f"{TRAINING}.batch": 0}, f"{TRAINING}.batch", 0, "must be greater than or equal to 1"),
    ({f"{TRAINING}.betas": [0.9, 1]}, f"{TRAINING}.betas", 1, "must be less than 1"),
    ({f"{TRAINING}.ema": 1}, f"{TRAINING}.ema", 1, "must be less than 1"),
    ({"image.scale": {"percentiles": [99, 1]}}, "image.scale.percentiles", [99, 1], "the lower first"),
    ({"image.scale": {"percentiles": [0.005, 0.995]}}, "image.scale.percentiles", [0.005, 0.995],
     "did you mean [0.5, 99.5]?"),
    ({"image.given": ["T1"]}, "image.given", "T1", "did you mean 't1'?"),
    ({"image.empty_labels": ["non"]}, "image.empty_labels", "non", "did you mean 'none'?"),
    ({"image.may_lack": ["lesoin"]}, "image.may_lack", "lesoin", "none of the image channels that are generated"),
    ({"image.labels": ["none", "infiltrating", "none"]}, "image.labels", "none", "named twice"),
    ({"score.seeds": [1, 2, 1]}, "score.seeds", 1, "named twice"),
    ({f"{TRAINING}.flip": [1, 1]}, f"{TRAINING}.flip", 1, "named twice"),
    ({"gates.warn": ["epsilon <= 8", "epsilon <= 8"]}, "gates.warn", "epsilon <= 8", "named twice"),
    ({"models.vae.family.class_path": "families.vae.VAE"}, "models.vae.family.class_path", "families.vae.VAE",
     "did you mean 'fedsynth.families.vae.VAE'?"),
    ({"image.size": [16, 0]}, "image.size", 0, "must be greater than or equal to 1"),
    ({"image.may_lack": ["t2"], "models.vae.family": of("families.vq_vae.VQVAE"), f"{TRAINING}.rounds": 2},
     "models.vae.family.class_path", "fedsynth.families.vq_vae.VQVAE", "cannot leave a channel out"),
    ({"image.given": ["t1"]}, "sample.given", None, "name a source or a set"),
    ({"source.args.sites.north.imags": 3}, "source.args.sites.north.imags", 3, "did you mean 'images'?"),
    ({"source.args.sites.north.noise": -3}, "source.args.sites.north.noise", -3, "greater than or equal to 0"),
    ({"source.args.conspicuity": [3, 1]}, "source.args.conspicuity", [3, 1], "the lower first"),
    ({"source": of("sources.table.Table", {"folder": "/nowhere"})}, "source.args.folder", "/nowhere", "is not there"),
    ({"source": of("sources.table.Table", {"folder": "${NOT_SET}"})},
     "source.args.folder", "${NOT_SET}", "set the environment variable"),
    ({"source.args.sites.a\nb": {"images": 24}}, "source.args.sites.(unprintable)", "a\nb", "control character U+000A"),
    ({"source.args.sites.NORTH": {"images": 24}}, "source", None, "'north' and 'NORTH' differ only in blanks"),
    ({"source.args.sites": {**SITES, "x" * 201: {"images": 24}}},
     f"source.args.sites.{'x' * 201}", "x" * 201, "has 201 characters"),
    ({"source.args.sites": {**SITES, 7: {"images": 24}}}, "source.args.sites.7", 7, "put the name in quotes"),
    ({"source.args.sites.worst_site": {"images": 24}},
     "source.args.sites.worst_site", "worst_site", "no site may have this name"),
    ({"consortium.sites": ["north", "east", "east"]}, "consortium.sites", "east", "named twice"),
    ({"consortium.sites": ["north", "eats"]}, "consortium.sites", "eats", "did you mean 'east'?"),
    ({"consortium.sites": ["north", "St. Mary's"]}, "consortium.sites", "St. Mary's", "the source has no such site"),
    ({"consortium.quorum": 3}, "consortium.quorum", 3, "(north, east); at most 2"),
    ({"consortium.min_sites": 3}, "consortium.min_sites", 3, "(north, east); at most 2"),
    ({"split": {"val": 0.6, "test": 0.5}}, "split", [0.6, 0.5], "they must be below 1"),
    ({"split.train_only": ["nroth"]}, "split.train_only", "nroth", "did you mean 'north'?"),
    ({"split": {"train_only": ["east"], "test_only": ["east"]}, "consortium.min_sites": 1},
     "split.test_only", "east", "is in split.train_only, too"),
    ({"split.train_only": ["east", "north"]}, "split.train_only", ["east", "north"], "holds every site"),
    ({"split.test_only": ["east"]}, "split.test_only", ["east"], "leaves 1 of 2 sites to train"),
    ({"split.train_only": ["east"],
      "models.vae.algorithm": of("algorithms.fedavg.FedAvg", {"weighting": "validation"})},
     "models.vae.algorithm.args.weighting", "validation", "east has no validation images"),
    ({"expectations.min_images": {"vel": 3}}, "expectations.min_images.vel", 3, "did you mean 'val'?"),
    ({"sample.balance": {"nonee": 1.0, "none": 1.0}}, "sample.balance.nonee", 1.0, "did you mean 'none'?"),
    ({"sample.balance": {"none": -1}}, "sample.balance.none", -1, "must be greater than or equal to 0"),
    ({"sample.balance": {"none": 0}}, "sample.balance", {"none": 0.0}, "nothing to draw"),
    (
        {"sample.given": of("sources.phantom.Phantom", {"sites": {"north": {"images": 3}}})},
        "sample.given.args.sites.north", "north", "a hospital of this run",
    ),
    ({"models.Vaé": TINY["models"]["vae"]}, "models.Vaé", TINY["models"]["vae"], "without accents"),
    ({"score.uses.a/b": TINY["score"]["uses"]["classification"]},
     "score.uses.a/b", TINY["score"]["uses"]["classification"], "a part of file names"),
    ({"score.features": of("features.classifier.Classifier", {"use": "clasification"})},
     "score.features.args.use", "clasification", "did you mean 'classification'?"),
    ({"score.measures": {"a": of("measures.fid.FID"), "b": of("measures.fid.FID")}},
     "score.measures.b", "fedsynth.measures.fid.FID",
     "another measure gives fid"),
    ({"score.measures.prdc": of("measures.prdc.PRDC", {"k": 0})}, "score.measures.prdc.args.k", 0, "1 or more"),
    ({"score.measures.s": of("measures.ms_ssim.MSSSIM", {"pairs": -1})}, "score.measures.s.args.pairs", -1,
     "1 or more"),
    ({f"{VAE_ARGS}.latent": 16, f"{VAE_ARGS}.sigma": -1}, VAE_ARGS, None, "sigma (-1) above 0"),
    ({"models.vae.algorithm": of("algorithms.fedavg.FedAvg", {"shared": []})},
     "models.vae.algorithm.args.shared", [], "matches no parameter; the widest patterns are autoencoder.*"),
    ({"models.vae.algorithm": of("algorithms.fedavg.FedAvg", {"shared": [None]})},
     "models.vae.algorithm.args.shared", [None], "a list, each a text"),
    ({"source": of("sources.bids.BIDS", {"folder": "/", "channels": {"t1": ["T1w"]}})},
     "source.args.channels.t1", ["T1w"], "must be a text"),
    ({"source": of("sources.table.Table", {"folder": "/", "rows": {"subject": 3}})},
     "source.args.rows.subject", 3, "must be a list, each a text"),
    ({"sample.given": "nowhere"}, "sample.given", "nowhere", "holds no manifest.csv"),
    ({"expectations.min_images": {"train": True}}, "expectations.min_images", {"train": True}, "must be a number"),
    ({"score.measures.membership": of("measures.membership.Membership", {"draws": 0})},
     "score.measures.membership.args.draws", 0, "draws must be positive"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "key", "value", "said"), ONE, ids=[f"{i}-{case[1]}" for i, case in enumerate(ONE)])
def test_a_mistake_is_one_problem_that_says_what_to_do(tmp_path, changes, key, value, said):
    (problem,) = found(tmp_path, **changes)
    assert (problem.key, problem.value) == (key, value)
    assert said in problem.said
    assert "\n" not in str(problem)


CLASSIFIER = "fedsynth.features.classifier.Classifier"
GIVEN = {
    "image.given": ["t1"],
    "sample.given": of("sources.phantom.Phantom", {"sites": {"public": {"images": 3}}}),
}
GATES = [
    ("FID <= 3", "did you mean 'fid'?"),
    ("clasification/retained >= 0.8", "did you mean 'classification/retained'?"),
    ("classification/retaind >= 0.8", "did you mean 'classification/retained'?"),
    ("classification/sensitivity.non >= 0.8", "did you mean 'classification/sensitivity.none'?"),
    (
        "psnr >= 20",
        "score.measures gives fid, pooled_fid, and there are epsilon, epsilon_total, masks_emptied, drawn_again",
    ),
    ("fid@nort <= 3", "did you mean 'north'?"),
    ("classification/retained@west >= 0.8", "known are north, east, worst_site"),
    ("classification/gap_closed_poorest@north >= 0.8", "take @north out"),
    ("epsilon@worst_site <= 8", "take @worst_site out"),
    ("epsilon_total@north <= 8", "take @north out"),
    ("epsilon_all <= 8", "did you mean 'epsilon_total'?"),
    ("classification/retained >= 3 * floor", "has no floor"),
    ("fid =< 3", "did you mean `fid <= 3`?"),
]


def test_a_count_that_can_never_hold_by_its_bound_is_told_how_to_be_written():
    params = tiny_params(
        score={"measures": {"copies": of("measures.copies.Copies")}},
        gates={"require": ["copies_pixel <= 0", "copies_pixel <= 0 by point", "copies_feature <= 4"]},
    )
    (problem,) = [p for p in problems(params, source=False) if p.key == "gates.require"]
    assert "can never hold by its bound" in problem.said
    assert "write `copies_pixel <= 0 by point`" in problem.said


@pytest.mark.parametrize(("gate", "said"), GATES, ids=[gate for gate, _ in GATES])
@pytest.mark.parametrize("kind", ["require", "warn"])
def test_a_gate_on_what_will_not_be_there_is_named_with_what_will(tmp_path, kind, gate, said):
    (problem,) = found(tmp_path, **{"score.measures.fid": of("measures.fid.FID"), f"gates.{kind}": ["fid <= 9", gate]})
    assert (problem.key, problem.value) == (f"gates.{kind}", gate)
    assert said in problem.said


def test_gates_on_sites_classes_floors_and_an_epsilon_that_is_not_spent_are_right(tmp_path):
    gates = [
        "fid@north <= 3 * floor",
        "fid@worst_site <= 9",
        "classification/specificity.none@east >= 0.1",
        "epsilon <= 8",
    ]
    assert found(tmp_path, **{"score.measures.fid": of("measures.fid.FID"), "gates.require": gates}) == []


NO_MASK = {"image.channels": {"t1": "image", "t2": "image"}, "image.empty_labels": []}
NEEDS = [  # a measure, what else is in the study, what it needs
    ("geometry.Geometry", NO_MASK, "a mask channel"),
    ("geometry.Geometry", {"image.empty_labels": ["none", "infiltrating", "extra_axial"]}, "a class with a mask"),
    ("mask_agreement.MaskAgreement", {}, "a use of the class Segmentation"),
    (
        "class_agreement.ClassAgreement",
        {"score.uses": {"s": of("uses.segmentation.Segmentation")}, "score.features.class_path": f"{CLASSIFIER}",
         "score.features.args": {"use": "s"}},
        "a use of the class Classification",
    ),
    ("conversion.Conversion", {}, "a channel to convert, and image.given names none"),
    ("conversion.Conversion", {**GIVEN, "image.given": ["t1", "t2"]}, "an image channel that is generated"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changes", "said"), NEEDS, ids=[f"{name}-{said}" for name, _, said in NEEDS])
def test_a_measure_that_the_study_gives_nothing_to_measure_is_a_problem(tmp_path, name, changes, said):
    (problem,) = found(tmp_path, **changes, **{"score.measures.one": of(f"measures.{name}")})
    assert (problem.key, problem.value) == ("score.measures.one", f"fedsynth.measures.{name}")
    assert f"gives no number: it needs {said}" in problem.said


def test_a_gate_on_a_number_that_the_study_cannot_have_is_a_problem(tmp_path):
    gates = {"gates.require": ["converted_dice >= 0.5", "psnr >= 20", "converted_accuracy >= 0.5"]}
    (problem,) = found(
        tmp_path, **GIVEN, **gates, **{"score.measures.conversion": of("measures.conversion.Conversion")}
    )
    assert (problem.key, problem.value) == ("gates.require", "converted_dice >= 0.5")
    assert "needs a use of the class Segmentation" in problem.said


def test_a_number_of_all_sites_together_has_no_gate_for_one(tmp_path):
    (problem,) = found(
        tmp_path, **{"score.measures.fid": of("measures.fid.FID"), "gates.warn": ["pooled_fid@north <= 3"]}
    )
    assert "is one number for all sites; take @north out" in problem.said


def test_a_use_that_is_wrong_leaves_the_measures_that_need_it_alone(tmp_path):
    changes = {
        "score.uses.segmentation": of("uses.segmentation.Segmenation"),
        "score.measures.masks": of("measures.mask_agreement.MaskAgreement"),
    }
    assert [p.key for p in found(tmp_path, **changes)] == ["score.uses.segmentation.class_path"]


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
@pytest.mark.parametrize("mechanism", ["dpsgd.DPSGD", "update.UpdateDP"])
def test_a_budget_that_no_noise_keeps_is_a_problem(tmp_path, mechanism, accountant):
    args = {"epsilon": 1e-4, "accountant": accountant} | ({"clip": 1.0} if mechanism == "update.UpdateDP" else {})
    (problem,) = found(tmp_path, **{"models.vae.privacy": of(f"privacy.{mechanism}", args)})
    assert (problem.key, problem.value) == ("models.vae.privacy.args.epsilon", 1e-4)
    assert "too small for any noise" in problem.said
    least = float(problem.said.split("allows ")[1].split(" ")[0])
    assert found(tmp_path, **{"models.vae.privacy": of(f"privacy.{mechanism}", args | {"epsilon": least})}) == []


def test_a_use_or_a_measure_that_cannot_be_built_leaves_its_gates_alone(tmp_path):
    changes = {
        "score.measures.fid": of("measures.fid.FDI"),
        "score.uses.segmentation": of("uses.segmentation.Segmenation"),
    }
    named = found(tmp_path, **changes, **{"gates.require": ["fid <= 3", "segmentation/dice >= 0.5"]})
    assert [p.key for p in named] == ["score.uses.segmentation.class_path", "score.measures.fid.class_path"]


def test_segmentation_without_a_mask_says_what_to_do(tmp_path):
    (problem,) = found(tmp_path, **NO_MASK, **{"score.uses.segmentation": of("uses.segmentation.Segmentation")})
    assert problem.key == "score.uses.segmentation"
    assert "name one in image.channels or take this use out" in problem.said


def test_classification_of_one_label_says_what_to_do(tmp_path):
    (problem,) = found(tmp_path, **{"image.labels": ["none"], "image.empty_labels": []})
    assert problem.key == "score.uses.classification"
    assert "needs two labels at least, and image.labels is ['none']" in problem.said


MANY = {"channels": {"t1": "image", **{f"m{i}": "mask" for i in range(5)}}}
HOLDS = [
    ("png.PNG", {"size": [16, 16, 16]}, "export volumes with"),
    ("npz.NPZ", MANY, "NPZ holds up to 4 mask channels"),
]


@pytest.mark.parametrize(("exporter", "image", "said"), HOLDS, ids=[name for name, *_ in HOLDS])
def test_an_exporter_that_cannot_hold_the_images_says_so(exporter, image, said):
    of_images = {"source": of("sources.table.Table", {"folder": "somewhere"}), "image": image}
    sample = {"exporters": {"one": of(f"exporters.{exporter}")}}
    (problem,) = problems(tiny_params(**of_images, sample=sample), source=False)
    assert (problem.key, problem.value) == ("sample.exporters.one", f"fedsynth.exporters.{exporter}")
    assert said in problem.said


SIZES = [
    (
        [30, 30],
        (
            "the network of models.vae takes sizes that are multiples of 8; the nearest to [30, 30] are [24, 24] and"
            " [32, 32]"
        ),
    ),
    ([32, 30], "takes sizes that are multiples of 8; the nearest to [32, 30] are [32, 24] and [32, 32]"),
    ([4, 4], "takes sizes that are multiples of 8; the nearest to [4, 4] is [8, 8]"),
    ([16, 20, 16], "the nearest to [16, 20, 16] are [16, 16, 16] and [16, 24, 16]"),
]


@pytest.mark.parametrize(("size", "said"), SIZES, ids=[str(size) for size, _ in SIZES])
def test_a_size_that_a_network_does_not_take_comes_with_the_nearest_that_it_does(tmp_path, size, said):
    (problem,) = found(tmp_path, **{"image.size": size})
    assert (problem.key, problem.value) == ("image.size", size)
    assert said in problem.said


def test_networks_that_ask_for_the_same_size_are_one_problem(tmp_path):
    (problem,) = found(
        tmp_path,
        **{"image.size": [30, 32], "models.gan": {"family": of("families.gan.GAN"), "training": {"rounds": 1}}},
    )
    assert problem.said.startswith("each network of models.vae, models.gan takes sizes that are multiples of 8")


def test_an_operator_asks_for_a_size_too(tmp_path):
    derived = {"t2": {"of": "t1", "operator": of("operators.resolution.Coarse", {"factor": 3})}}
    given = {"image.given": ["t2"], "sample.given": of("sources.phantom.Phantom", {"sites": {"public": {"images": 3}}})}
    (problem,) = found(tmp_path, **{"image.derived": derived, **given})
    assert (problem.key, problem.said) == (
        "image.size",
        (
            "the network of image.derived.t2.operator takes sizes that are multiples of 3; the nearest to [16, 16] are"
            " [15, 15] and [18, 18]"
        ),
    )


def network(steps: list[int], least: int = 1) -> Trial:
    """Takes sizes whose axes are multiples of `steps`, none below `least`."""

    def trial(size):
        if any(n % step or n < least for n, step in zip(size, steps, strict=True)):
            raise RuntimeError(f"{size} does not fit")

    return trial


@pytest.mark.parametrize("steps", [[1, 1], [8, 8], [12, 12], [4, 6], [2, 1, 5], [64, 64]], ids=str)
def test_the_multiple_of_each_axis_is_found(steps):
    assert multiples(network(steps), len(steps)) == steps


def test_what_is_too_small_is_called_so():
    sizes = Sizes((4, 16))
    assert sizes.error("models.x", network([4, 4], least=16)) is None
    assert [p.said for p in sizes.problems()] == [
        "the network of models.x does not take [4, 16], which is too small; the nearest to [4, 16] is [16, 16]"
    ]


def test_what_wants_numbers_is_tried_with_numbers():
    sizes = Sizes((16, 16))
    assert sizes.error("models.x", lambda size: torch.ones(size).numpy()) is None
    assert sizes.problems() == []
    error = sizes.error("models.x", lambda size: torch.ones(size).numpy() @ torch.ones(3).numpy())
    assert isinstance(error, ValueError)


def test_a_loss_that_fails_at_every_size_is_a_problem_of_the_family(monkeypatch):
    monkeypatch.setattr(VAE, "loss", lambda self, player, x, y, given: x @ torch.zeros(3, 3))
    (problem,) = problems(tiny_params())
    assert (problem.key, problem.value) == ("models.vae.family", "fedsynth.families.vae.VAE")


FIVE = {
    f"{TRAINING}.epoch": 3,
    "image.size": [30, 32],
    "consortium.quorum": 9,
    "score.uses.classification.args": {"stepps": 3},
    "gates.require": ["Epsilon <= 8"],
}
KEYS = [
    "consortium.quorum",
    "image.size",
    f"{TRAINING}.epoch",
    "score.uses.classification.args.stepps",
    "gates.require",
]


def test_five_mistakes_at_once_are_one_list_in_the_order_of_the_file(tmp_path):
    assert [p.key for p in found(tmp_path, **FIVE)] == KEYS


def test_whoever_checks_a_file_gets_the_whole_list_as_one_error(tmp_path):
    with pytest.raises(ParamsError) as error:
        check(written(tmp_path, changed(**FIVE)))
    head, *lines = str(error.value).splitlines()
    assert head == "params.yaml has 5 problems:"
    assert [line.split(": ")[0] for line in lines] == KEYS
    assert (
        lines[2] == "models.vae.training.epoch: 3: unknown key; known are rounds, epochs, local_steps, batch, lr,"
        " lr_end, betas, weight_decay, accumulate, recompute, clip, ema, flip, bf16; did you mean 'epochs'?"
    )


def test_one_problem_is_no_problems(tmp_path):
    with pytest.raises(ParamsError, match=r"^params\.yaml has 1 problem:\nsplit: "):
        check(written(tmp_path, changed(split={"val": 0.5, "test": 0.5})))


def test_a_file_without_a_problem_is_given_as_params(tmp_path):
    assert check(written(tmp_path, TINY)) == tiny_params()


ENCRYPTED = {
    "models.vae.encryption": of("privacy.he.CKKS"),
    "models.vae.compression": {"up": of("compression.topk.TopK", {"share": 2})},
}


def test_parts_of_a_model_that_do_not_go_together_hide_no_mistake_in_their_arguments(tmp_path):
    named = found(tmp_path, **ENCRYPTED, **{f"{VAE_ARGS}.latnet": 3})
    assert [p.key for p in named] == [
        "models.vae.encryption",
        f"{VAE_ARGS}.latnet",
        "models.vae.compression.up.args.share",
    ]


def test_an_algorithm_that_needs_more_than_a_sum_does_not_go_with_encryption(tmp_path):
    encrypted = {"models.vae.encryption": of("privacy.he.CKKS")}
    (problem,) = found(tmp_path, **encrypted, **{"models.vae.algorithm": of("algorithms.scaffold.Scaffold")})
    assert (problem.key, "take FedAvg, FedProx, FedOpt" in problem.said) == ("models.vae.encryption", True)
    weighted = {"models.vae.algorithm": of("algorithms.fedavg.FedAvg", {"weighting": "validation"})}
    (problem,) = found(tmp_path, **encrypted, **weighted)
    assert "`weighting: validation` needs each" in problem.said


BOOLS = {
    "seed": True,
    f"{TRAINING}.rounds": True,
    f"{TRAINING}.lr": True,
    f"{TRAINING}.betas": [True, 0.9],
    "image.size": [True, 16],
}


@pytest.mark.parametrize("key", BOOLS)
def test_true_and_false_are_no_numbers(tmp_path, key):
    (problem,) = found(tmp_path, **{key: BOOLS[key]})
    assert (problem.key, problem.said) == (key, "must be a number")


def test_a_problem_shows_the_value_as_it_stands_in_the_file(tmp_path):
    (problem,) = found(tmp_path, **{"consortium.sites": []})
    assert str(problem) == "consortium.sites: []: must have at least 1 entry, and has 0"
    image = {"image.may_lack": ["t1", "t2", "lesion"], "image.channels": {"t1": "image", "t2": "image"}}
    named = {(p.key, str(p.value)) for p in found(tmp_path, **image, **{"image.empty_labels": []})}
    assert named == {("image.may_lack", "lesion"), ("image.may_lack", "['t1', 't2', 'lesion']")}


def test_a_missing_key_hides_no_mistake_in_the_rest(tmp_path):
    named = found(tmp_path, **{f"{TRAINING}.rounds": OUT, f"{VAE_ARGS}.latnet": 3, "image.fit": "pda"},
                  **{"image.given": ["lesoin"]})  # fmt: skip
    assert [p.key for p in named] == ["image.fit", "image.given", f"{TRAINING}.rounds", f"{VAE_ARGS}.latnet"]


def test_where_no_file_is_left_without_the_mistakes_the_classes_are_looked_at(tmp_path):
    classes = {"models.vae.family": of("families.vae.VEA"), "score.features": of("uses.x.Y")}
    named = found(tmp_path, **{"image.size": [30], **classes})
    assert [p.key for p in named] == ["image.size", "models.vae.family.class_path", "score.features.class_path"]


def test_a_class_of_another_package_is_not_even_loaded(tmp_path):
    (problem,) = found(tmp_path, **{"models.vae.family": {"class_path": "antigravity.Joke"}})
    assert (problem.key, "not under 'fedsynth.'" in problem.said) == ("models.vae.family.class_path", True)


STRANGE = [None, [], {}, "zzz", "", -1, 0, 10**9, float("nan"), float("inf"), True, [None], [[]], 0.5, OUT]
LIBRARY = re.compile(r"Input should|validation error|out of range|has no attribute|NoneType|not subscriptable|Error:")


def places(at: Any, key: tuple = ()) -> Iterator[tuple]:
    """The place of every value, however deep."""
    for name, inside in at.items() if isinstance(at, dict) else enumerate(at) if isinstance(at, list) else ():
        yield (*key, name)
        yield from places(inside, (*key, name))


@pytest.mark.parametrize("value", STRANGE, ids=str)
@pytest.mark.parametrize("file", ["params.yaml", "fedsynth/study/examples/reconstruct.yaml"])
def test_whatever_stands_at_a_key_is_told_in_our_own_words_and_by_its_key(file, value):
    raw = yaml.safe_load((ROOT / file).read_text())
    for *above, last in places(raw):
        changed = copy.deepcopy(raw)
        at = changed
        for part in above:
            at = at[part]
        if value is OUT:
            del at[last]
        else:
            at[last] = value
        for problem in mended(changed)[1]:
            assert problem.key, (above, last, problem)
            assert not LIBRARY.search(problem.said), (above, last, problem)


@pytest.mark.parametrize("text", ["", "a: [", "- 1"], ids=["empty", "no YAML", "a list"])
def test_a_file_that_is_none_is_an_error_that_names_it(tmp_path, text):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=r"params\.yaml"):
        check(tmp_path / "params.yaml")
    with pytest.raises(ParamsError, match="is not there"):
        check(tmp_path / "other.yaml")


def test_a_table_tells_its_sites_and_no_image_is_read(tmp_path, monkeypatch):
    make_table(tmp_path / "images", subjects=6)
    monkeypatch.setattr("fedsynth.data.reading.read", lambda *args, **more: pytest.fail("an image was read"))
    source = of("sources.table.Table", {"folder": str(tmp_path / "images")})
    (problem,) = found(tmp_path, **{"source": source, "consortium.sites": ["p", "r"]})
    assert (problem.key, problem.value) == ("consortium.sites", "r")
    assert "it has p, q" in problem.said
    (tmp_path / "images" / "manifest.csv").write_text("image,mask\n")
    (problem,) = found(tmp_path, source=source)
    assert (problem.key, "lacks the columns" in problem.said) == ("source", True)


TABLE = "sources.table.Table"


@pytest.mark.parametrize(
    ("args", "key", "said"),
    [
        ({}, "source", "manifest.csv is not there"),
        ({"partition": {"kind": "iid", "sites": 2}}, "source", "manifest.csv is not there"),
    ],
)
def test_a_folder_without_a_table_is_a_problem_with_and_without_a_partition(tmp_path, args, key, said):
    (tmp_path / "images").mkdir()
    (problem,) = found(tmp_path, source=of(TABLE, {"folder": str(tmp_path / "images"), **args}))
    assert (problem.key, said in problem.said) == (key, True)


def test_a_partition_with_more_sites_than_subjects_is_a_problem(tmp_path):
    make_table(tmp_path / "images", subjects=6)
    args = {"folder": str(tmp_path / "images"), "partition": {"kind": "iid", "sites": 7}}
    (problem,) = found(tmp_path, source=of(TABLE, args))
    assert (problem.key, problem.value) == ("source.args.partition.sites", 7)
    assert "6 subjects cannot be dealt to 7 sites" in problem.said


OTHERS = [  # of sources with an empty folder, and with a partition that names their sites
    ("decathlon.Decathlon", "dataset.json cannot be read"),
    ("bids.BIDS", "has no"),
    ("isic.ISIC", "holds no image"),
]


@pytest.mark.parametrize(("name", "said"), OTHERS, ids=[name for name, _ in OTHERS])
def test_a_folder_without_images_is_a_problem_of_every_source(tmp_path, name, said):
    (tmp_path / "images").mkdir()
    args = {"folder": str(tmp_path / "images"), "partition": {"kind": "iid", "sites": 2}}
    image = {"image.labels": ["none"], "image.empty_labels": []}  # so that no table has to tell the labels
    listed = found(tmp_path, source=of(f"sources.{name}", args), **image)
    (problem,) = [p for p in listed if p.key.startswith("source")]
    assert said in problem.said, problem


def test_every_mistake_in_the_sites_of_phantoms_is_a_problem(tmp_path):
    sites = {"north": {"imags": 3, "noise": -1}, "east": None, "south": {"images": 3, "mix": [1], "lacks": ["t2"]}}
    args = {"source.args.sites": sites, "source.args.conspicuity": [3, 1]}
    assert [p.key for p in found(tmp_path, **args)] == [
        "source.args.sites.north.noise",
        "source.args.sites.north.imags",
        "source.args.sites.east",
        "source.args.sites.south.mix",
        "source.args.sites.south.lacks",
        "source.args.conspicuity",
    ]


def test_a_partition_without_its_sites_says_so_at_that_key(tmp_path):
    make_table(tmp_path / "images", subjects=6)
    args = {"folder": str(tmp_path / "images"), "partition": {"kind": "iid"}}
    (problem,) = found(tmp_path, source=of(TABLE, args))
    assert (problem.key, problem.value) == ("source.args.partition.sites", None)
    assert "must be names of sites, or how many there are" in problem.said


def test_a_library_that_stumbles_over_an_argument_is_told_with_the_class(tmp_path):
    (tmp_path / "images").mkdir()
    bids = of("sources.bids.BIDS", {"folder": str(tmp_path / "images"), "channels": {"t1": 1, "t2": "T2w"}})
    (problem,) = found(tmp_path, source=bids)
    assert (problem.key, problem.value) == ("source", "fedsynth.sources.bids.BIDS")
    assert problem.said.startswith("BIDS fails with these arguments, AttributeError: ")


def test_phantoms_without_a_site_are_a_problem(tmp_path):
    (problem,) = found(tmp_path, **{"source.args.sites": {}})
    assert (problem.key, problem.said) == ("source.args.sites", "has no site, and so no image; name one")


def test_a_channel_that_phantoms_have_not_is_a_problem_of_the_image(tmp_path):
    (problem,) = found(tmp_path, **{"image.channels": {"t1": "image", "t2": "image", "leison": "mask"}})
    assert (problem.key, problem.value) == ("image.channels", "leison")
    assert "they have t1, t2, lesion; did you mean 'lesion'?" in problem.said


def given_table(folder: Path, **args: Any) -> dict[str, Any]:
    """A study of t1 given, and where its images and the given ones come from."""
    make_table(folder, subjects=12)
    source = {"folder": str(folder)}
    return {
        "source": of(TABLE, source | args.pop("source", {})),
        "image.channels": {"image": "image", "other": "image", "lesion": "mask"},
        "image.given": ["image"],
        "sample.given": of(TABLE, source | args),
    }


def test_the_hospitals_own_files_are_never_given_under_another_name(tmp_path):
    public = {"partition": {"kind": "iid", "sites": ["public"]}}
    (problem,) = found(tmp_path, **given_table(tmp_path / "images", **public))
    assert (problem.key, problem.value) == ("sample.given", "fedsynth.sources.table.Table")
    assert "files of the hospitals" in problem.said
    some = {"subject": ["patient 0", "patient 1"]}
    apart = given_table(tmp_path / "others", **public, rows=some, source={"exclude": some})
    assert found(tmp_path, **apart) == []


def test_the_set_of_a_hospital_is_never_given(tmp_path):
    image = {"image.given": ["t1"]}
    params = tiny_params(image={"given": ["t1"]}, sample={"given": "set"})
    make_set(tmp_path / "set", params, "north", n=12)
    (problem,) = found(tmp_path, **image, **{"sample.given": str(tmp_path / "set")})
    assert (problem.key, problem.value) == ("sample.given", str(tmp_path / "set"))
    assert "has images of 'north', a hospital of this run" in problem.said
    make_set(tmp_path / "set", params, "public", n=12)
    assert found(tmp_path, **image, **{"sample.given": str(tmp_path / "set")}) == []
    (problem,) = found(tmp_path, **image, **{"sample.given": str(tmp_path / "set"), "image.size": [24, 24]})
    assert "(3, 24, 24) is needed" in problem.said
    (tmp_path / "set" / "manifest.csv").write_text("image,mask\n")
    (problem,) = found(tmp_path, **image, **{"sample.given": str(tmp_path / "set")})
    assert "lacks the columns" in problem.said


def test_in_a_federation_the_given_images_are_at_the_centre_and_not_at_a_hospital(tmp_path):
    params = tiny_params(
        image={"given": ["t1"]}, sample={"given": str(tmp_path / "set")}, consortium={"sites": ["west", "east"]}
    )
    (problem,) = problems(params, source=False)
    assert "holds no manifest.csv" in problem.said
    assert problems(params, source=False, given=False) == []


def test_in_a_federation_the_files_are_in_the_hospitals_and_nobody_asks_for_them():
    source = {"class_path": "fedsynth.sources.table.Table", "args": {"folder": "${NOT_SET}"}}
    params = tiny_params(source=source, gates={"require": ["classification/retained@anywhere >= 0.8"]})
    assert problems(params, source=False) == []
    assert [p.key for p in problems(params)] == ["source.args.folder"]


def test_a_batch_larger_than_every_sites_images_is_known_once_they_are_counted():
    params = tiny_params()
    assert of_counts(params, "vae", {"north": 3, "east": 8}) == []
    (problem,) = of_counts(params, "vae", {"north": 3, "east": 7})
    assert (problem.key, problem.value) == ("models.vae.training.batch", 8)
    assert "(north 3, east 7)" in problem.said
    assert problem.said.endswith("at most 7")


def test_a_model_is_checked_again_before_its_job_is_made():
    params = tiny_params(image={"size": [30, 16]})
    (problem,) = of_models.alone(params, "vae")
    assert problem.key == "image.size"
    with pytest.raises(ParamsError.__base__, match="multiples of 8"):
        job.begin(params, "vae")


def test_a_model_begins_with_the_same_weights_whether_or_not_it_was_checked():
    params = tiny_params()
    torch.manual_seed(params.seed)
    family = params.models["vae"].family.build(**params.image.context())
    begun = job.begin(params, "vae")
    assert all(torch.equal(p, torch.from_numpy(begun[name])) for name, p in family.named_parameters())


@pytest.mark.parametrize(
    ("changes", "key", "said"),
    [
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"score.seeds": [-1]}, "score.seeds", "greater than or equal to 0"),
        ({"models.vae.training.lr": float("inf")}, "models.vae.training.lr", "finite number"),
        ({"models.vae.family.args": {"sigma": float("nan")}}, "models.vae.family.args.sigma", "must be finite"),
        ({"models.vae.family.args": {"latent": 0}}, "models.vae.family.args.latent", "latent (0) must be 1 or more"),
        ({"gates.require": ["epsilon <= 1e999"]}, "gates.require", "its limit is not finite"),
        ({"models.vae.algorithm": "FedProx"}, "models.vae.algorithm", "must be {class_path: ..., args: {...}}"),
    ],
)
def test_numbers_that_pass_for_numbers_and_blocks_that_pass_for_blocks_are_refused(tmp_path, changes, key, said):
    found = {problem.key: problem.said for problem in of_file(written(tmp_path, changed(**changes)))[1]}
    assert said in found[key], found


@pytest.mark.parametrize("args", [{"steps": 0}, {"steps": -400}, {"batch": 0}, {"lr": -1.0}])
def test_a_use_without_a_budget_is_refused(tmp_path, args):
    block = {"class_path": "fedsynth.uses.classification.Classification", "args": args}
    found = of_file(written(tmp_path, changed(**{"score.uses": {"classification": block}})))[1]
    assert any("a network stays untrained" in problem.said for problem in found), found


def test_a_sampler_that_the_schedule_does_not_have_is_refused_before_the_training(tmp_path):
    block = {"class_path": "fedsynth.families.diffusion.Diffusion", "args": {"channels": [16, 32], "steps": 2000}}
    found = of_file(written(tmp_path, changed(**{"models.vae.family": block})))[1]
    assert any("steps must be from 1 to 1000, not 2000" in problem.said for problem in found), found


def test_a_key_that_is_there_twice_is_refused_with_both_lines(tmp_path):
    path = written(tmp_path, changed())
    path.write_text(path.read_text() + "seed: 1\nseed: 2\n")
    with pytest.raises(ParamsError, match=r"'seed' is there twice, in lines \d+ and \d+: keep one"):
        of_file(path)


def test_a_file_that_is_not_utf_8_or_empty_is_said(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes("# für\n".encode("latin-1"))
    with pytest.raises(ParamsError, match="is not UTF-8"):
        of_file(path)
    path.write_text("")
    assert "is empty" in of_file(path)[1][0].said


MEDIAN, CLIP = of("robust.median.Median"), of("robust.median_clip.MedianClip")
OF_FIVE = {"source.args.sites": {name: {"images": 24} for name in ("east", "north", "south", "west", "middle")}}


@pytest.mark.parametrize(
    ("changes", "key", "said"),
    [
        ({"models.vae.robust": of("robust.median.Medain")}, "models.vae.robust.class_path", "did you mean"),
        ({"models.vae.robust": of("robust.median_clip.MedianClip", {"bound": 0})}, "models.vae.robust.args.bound",
         "must be above 0"),
        ({"models.vae.robust": CLIP, "models.vae.encryption": of("privacy.he.CKKS")}, "models.vae.robust",
         "the sum of the updates alone"),
        ({"models.vae.robust": CLIP, "models.vae.algorithm": of("algorithms.cyclic.Cyclic")}, "models.vae.robust",
         "does not go with Cyclic: one site trains in each round"),
        ({"models.vae.robust": CLIP, "models.vae.algorithm": of("algorithms.oneshot.OneShot"),
          "models.vae.training.rounds": 1}, "models.vae.robust", "draws from each site's own model"),
        ({"models.vae.robust": CLIP, "models.vae.family": of("families.gan.GAN"),
          "models.vae.algorithm": of("algorithms.mdgan.MDGAN")}, "models.vae.robust", "does not go with MDGAN"),
        ({"models.vae.robust": MEDIAN, "models.vae.algorithm": of("algorithms.fedcar.FedCAR")}, "models.vae.robust",
         "FedCAR's weights would change nothing"),
        ({"models.vae.robust": MEDIAN, "models.vae.algorithm": of("algorithms.fedavg.FedAvg",
                                                                    {"weighting": "validation"})},
         "models.vae.robust", "`weighting: validation` would change nothing"),
        ({"models.vae.robust": MEDIAN, "models.vae.compression": {"up": of("compression.topk.TopK")}},
         "models.vae.robust", "with TopK each site sends others"),
        ({"models.vae.robust": MEDIAN, "consortium.quorum": 2}, "consortium.quorum", "needs 3 sites in every round"),
        ({"models.vae.robust": MEDIAN, "source.args.sites": TINY["source"]["args"]["sites"]}, "models.vae.robust",
         "Median needs 3 sites to tell which is the odd one, and 2 train"),
        ({"models.vae.robust": MEDIAN, "split.test_only": ["east", "north", "west"]}, "models.vae.robust",
         "and 2 train"),
    ],
)  # fmt: skip
def test_a_robust_rule_that_cannot_work_is_refused_with_its_key(tmp_path, changes, key, said):
    (problem,) = found(tmp_path, **OF_FIVE | changes)
    assert (problem.key, said in problem.said) == (key, True)


@pytest.mark.parametrize("rule", ["median.Median", "median_clip.MedianClip", "trimmed_mean.TrimmedMean",
                                  "geometric_median.GeometricMedian"])  # fmt: skip
@pytest.mark.parametrize("algorithm", ["fedavg.FedAvg", "fedprox.FedProx", "fedopt.FedOpt", "scaffold.Scaffold",
                                       "fedbn.FedBN"])  # fmt: skip
def test_every_rule_goes_with_every_algorithm_that_combines_updates(tmp_path, rule, algorithm):
    local = {"local": []} if algorithm == "fedbn.FedBN" else {}
    assert found(tmp_path, **OF_FIVE, **{"models.vae.robust": of(f"robust.{rule}"),
                                      "models.vae.algorithm": of(f"algorithms.{algorithm}", local)}) == []  # fmt: skip


def test_a_rule_is_refused_again_where_too_few_sites_have_passed_validation():
    block = tiny_params().models["vae"].model_dump() | {"robust": MEDIAN}
    params = tiny_params(models={"vae": block})
    assert not [*of_sites_that_train(params, "vae", 3)]
    assert [p.key for p in of_sites_that_train(params, "vae", 2)] == ["models.vae.robust"]


GAN = {"class_path": "fedsynth.families.gan.GAN"}
PRIVATE = {"class_path": "fedsynth.privacy.dpsgd.DPSGD", "args": {"epsilon": 8}}
EXCHANGE = {"class_path": "fedsynth.algorithms.mdgan.MDGAN"}


@pytest.mark.parametrize(
    ("training", "more", "keys"),
    [
        ({"accumulate": 2, "recompute": True}, {}, []),
        ({"accumulate": 2}, {"privacy": PRIVATE}, []),
        ({"recompute": True}, {"privacy": PRIVATE}, ["recompute"]),
        ({"accumulate": 2, "recompute": True}, {"algorithm": EXCHANGE}, ["accumulate", "recompute"]),
    ],
)
def test_a_way_of_saving_memory_that_a_training_does_not_have_is_a_problem(training, more, keys):
    model = {"family": GAN, "training": {"rounds": 2, "batch": 4} | training} | more
    found = problems(tiny_params(models={"gan": model}))
    assert [problem.key for problem in found if ".training." in problem.key] == [
        f"models.gan.training.{key}" for key in keys
    ]
