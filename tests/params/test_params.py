"""params.yaml: what is right passes unchanged, what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from fedsynth.params import Block, Image, ParamsError, load

ROOT = Path(__file__).parents[2]
FAMILIES = "fedsynth/study/examples/families.yaml"
OPERATOR = {"class_path": "fedsynth.operators.dose.LowDose"}


def changed(tmp_path: Path, *path: str, **values) -> Path:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    at = raw
    for key in path:
        at = at[key]
    at.update(values)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return tmp_path / "params.yaml"


@pytest.mark.parametrize("file", sorted(ROOT.glob("params*.yaml")), ids=lambda p: p.name)
def test_every_params_file_of_the_project_is_valid(file):
    assert load(file).models


@pytest.mark.parametrize(
    "file", [p for p in sorted(ROOT.glob("params*.yaml")) if load(p).image.given], ids=lambda p: p.name
)
def test_a_file_with_given_channels_judges_them_and_names_what_is_given_at_the_centre(file, monkeypatch):
    monkeypatch.setenv("FEDSYNTH_BRATS", "somewhere")
    params = load(file)
    context = params.image.context()
    numbers = {name for block in params.score.measures.values() for name in block.build(**context).about}
    assert {"psnr", "converted_dice"} <= numbers
    for model in params.models.values():
        assert model.family.build(**context).players()
    for derived in params.image.derived.values():
        assert derived.operator.build(**context)
    assert params.sample.given.build(image=params.image.sourced, seed=params.seed)


def test_the_phantoms_in_full_differ_from_the_default_in_their_size_alone():
    small, full = (
        pd.json_normalize(yaml.safe_load((ROOT / name).read_text())).iloc[0].to_dict()
        for name in ("params.yaml", "fedsynth/study/examples/full.yaml")
    )
    differ = {key for key in small.keys() | full.keys() if small.get(key) != full.get(key)}
    assert differ == {
        "study",
        "source.args.sites.north.images",
        "source.args.sites.north.train",
        "score.seeds",
        "score.uses.classification.args.batch",
        *(f"models.{name}.training.epochs" for name in ("diffusion", "gan", "vae")),
    }


def test_the_other_families_are_run_on_the_same_phantoms_with_what_of_the_measures_tells_most():
    default, families = (yaml.safe_load((ROOT / name).read_text()) for name in ("params.yaml", FAMILIES))
    assert not set(families["models"]) & set(default["models"])
    measures = families["score"]["measures"]
    assert measures == {name: default["score"]["measures"][name] for name in measures}
    # not measured here
    assert set(default["gates"]["warn"]) - set(families["gates"]["warn"]) == {"mask_agreement >= 0.7"}
    for raw in (default, families):
        del raw["models"], raw["sample"]["exporters"], raw["score"]["measures"], raw["gates"]["warn"]
    assert families == default | {"study": "families"}


def test_a_misspelt_key_is_named_with_its_place(tmp_path):
    with pytest.raises(ParamsError, match=r"models\.vae\.training\.epoch: 3: unknown key.*did you mean 'epochs'"):
        load(changed(tmp_path, "models", "vae", "training", epoch=3))


def test_a_misspelt_argument_is_named_with_the_nearest_one():
    block = Block(class_path="fedsynth.algorithms.fedprox.FedProx", args={"muu": 0.1})
    with pytest.raises(ParamsError, match="no argument 'muu'; did you mean 'mu'"):
        block.build()


@pytest.mark.parametrize("path", ["os.system", "torch.optim.Adam", "fedsynth.../etc", "fedsynthetic.x.Y"])
def test_only_classes_of_this_package_may_be_named(path):
    with pytest.raises(ValueError, match=r"not under 'fedsynth\.'"):
        Block(class_path=path)


def test_a_class_that_does_not_exist_is_named():
    with pytest.raises(ParamsError, match="Nothing"):
        Block(class_path="fedsynth.algorithms.fedavg.Nothing").build()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": [32]}, r"\[H, W\] or \[D, H, W\]"),
        ({"given": ["t3"]}, "t3"),
        ({"given": ["t1", "t2", "lesion"]}, "nothing to generate"),
        ({"channels": {"lesion": "mask", "t1": "image"}}, "image channels before the mask channels"),
        ({"labels": ["none", "none"]}, "named twice"),
        ({"given": ["t1"], "aside": ["t3"]}, r"aside.*'t3': is none of the channels"),
        ({"given": ["t1"], "aside": ["t1"]}, r"aside.*'t1': is given, too"),
        ({"aside": ["lesion"]}, "needs a given image"),
        ({"derived": {"t1": {"of": "t2", "operator": OPERATOR}}}, r"derived\.t1: is not named in image\.channels"),
        ({"given": ["t1"], "derived": {"t1": {"of": "t1", "operator": OPERATOR}}}, "none of the image channels"),
    ],
)
def test_an_image_that_makes_no_sense_is_refused(tmp_path, change, said):
    with pytest.raises(ParamsError, match=said):
        load(changed(tmp_path, "image", **change))


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(ParamsError, match="go into the folder of a study"):
        load(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("lack", "said"),
    [
        (["lesion"], "none of the image channels that are generated"),
        (["t1", "t2"], "at least one"),
        (["t9"], "none of the image channels that are generated"),
    ],
)
def test_only_an_image_channel_that_is_generated_may_lack_and_not_all_of_them(lack, said):
    with pytest.raises(ValueError, match=said):
        Image(size=(8, 8), channels={"t1": "image", "t2": "image", "lesion": "mask"}, labels=["a"], may_lack=lack)


def test_all_that_is_wrong_with_an_image_is_said_at_once(tmp_path):
    path = tmp_path / "params.yaml"
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["image"] |= {"channels": {"lesion": "mask", "t1": "image"}, "given": ["t9"], "empty_labels": ["non"]}
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    with pytest.raises(ParamsError) as error:
        load(path)
    for said in ("name the image channels before the mask channels", "image.given: 't9'", "image.empty_labels: 'non'"):
        assert said in str(error.value)
