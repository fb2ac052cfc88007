"""params.yaml for what was found: every value is chosen here or in the modules that it names, and says why."""

from __future__ import annotations

import textwrap
from typing import Any, NamedTuple

import yaml

from fedsynth.params import Image, Params
from fedsynth.study.found import plan as plans
from fedsynth.study.found import refused
from fedsynth.study.found.found import Found
from fedsynth.study.found.labels import Labels, labels
from fedsynth.study.found.layout import MANIFEST, TABLE, FoundError, shown
from fedsynth.study.found.machine import Machine
from fedsynth.study.found.sites import TESTS, Sites, sites
from fedsynth.study.found.size import scale, size

FAMILIES = {"diffusion": "diffusion.Diffusion", "gan": "gan.GAN", "vae": "vae.VAE"}
USES = {name: f"fedsynth.uses.{name}.{name.capitalize()}" for name in plans.USE_STEP}
MEASURES = {
    "fid": "FID", "kid": "KID", "prdc": "PRDC", "frozen": "Frozen", "texture": "Texture",
    "spectrum": "Spectrum", "ms_ssim": "MSSSIM", "intensity": "Intensity", "geometry": "Geometry",
    "mask_agreement": "MaskAgreement", "class_agreement": "ClassAgreement", "copies": "Copies",
    "membership": "Membership",
}  # fmt: skip
EXPORTERS = {2: ("png", "fedsynth.exporters.png.PNG"), 3: ("nifti", "fedsynth.exporters.nifti.NIfTI")}
WIDE = 100  # characters of a line with an argument, above which it is written over several


class Written(NamedTuple):
    """The text of params.yaml, what belongs beside it (name -> text), and what the person must know; "": nothing."""

    params: str
    files: dict[str, str]
    attention: str


def written(found: Found, name: str, machine: Machine) -> Written:
    """A study of this name. Raises FoundError where there are too few images for one."""
    if not len(found.good):
        said = shown(found.problems, 3)
        raise FoundError(f"{found.layout.folder} holds no image that can be used: {said}")
    voxels, why = size(found, machine)
    made = labels(found, tuple(voxels))
    channels = {c: kind for c, kind in found.layout.channels.items() if kind != "mask" or made.masks}
    image = Image.model_validate({"size": voxels, "channels": channels, "labels": made.names,
                                  "empty_labels": made.empty})  # fmt: skip
    args = ({"labels": made.args} if made.args else {}) | _exclude(found, made)
    at = sites(found, image, made, args)
    text = _rendered(found, name, machine, image, channels, made, at, args, why)
    return Written(text, found.files | refused.files(at), refused.attention(at))


def _exclude(found: Found, made: Labels) -> dict[str, Any]:
    """The source's argument `exclude`: images with a problem, and masks that do not go with their class."""
    odd = found.images["file"].isin(made.odd)
    if found.table is None:  # a proposed manifest does not have the others
        odd |= found.images["problem"] != ""
    bad = found.images[odd]
    if not len(bad) or not found.layout.drop:
        return {}
    if found.layout.drop == "image":
        return {"exclude": {"image": sorted({part for file in bad["file"] for part in file.split(" + ")})}}
    return {"exclude": {"subject": sorted(set(bad["subject"]))}}


def _arguments(found: Found, at: Sites, args: dict[str, Any]) -> list[str]:
    """The lines of source.args."""
    layout = found.layout
    said = layout.arguments | args
    comments = {"exclude": "images with a problem, or a mask that does not go with their class", **at.why}
    if found.table is not None:
        said["table"] = f"${{FEDSYNTH_ROOT}}/{MANIFEST}"
        comments["table"] = "proposed: look at it, and mend what was guessed"
    if at.at_most is not None:
        said["at_most"] = at.at_most
    if at.partition is not None:
        said["partition"] = at.partition
    lines = [line for key, value in said.items() for line in _entry(key, value, comments.get(key, ""))]
    if at.partition is None and layout.sited and layout.class_path == TABLE:
        lines.append("# partition: none, because the table names the site of each image")
    return lines


def _entry(key: str, value: Any, why: str) -> list[str]:
    line = f"{key}: {flow(value)}"
    above = [line.strip() for line in commented(why, 4).split("\n")] if why else []
    if len(line) <= WIDE or not isinstance(value, dict | list):
        return [*above, line]
    block = yaml.safe_dump({key: value}, allow_unicode=True, sort_keys=False, width=10**6)
    return [*above, *block.rstrip().split("\n")]


def _rendered(found: Found, name: str, machine: Machine, image: Image, channels: dict[str, Any], made: Labels,
              at: Sites, args: dict[str, Any], size_why: str) -> str:  # fmt: skip
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made_plan = plans.plan(found, image, made, at, machine)
    scaled, scale_why = scale(found)
    environment = Environment(  # YAML, not HTML: nothing to escape
        loader=PackageLoader("fedsynth.study.found", "."), undefined=StrictUndefined, keep_trailing_newline=True,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "flow": flow,
        "comment": lambda said: f"  # {said}" if said else "",
        "own_lines": commented,
        "family": lambda model: plans.args_of(model, image),
    }
    return environment.get_template("params.yaml.j2").render(
        head=" ".join(f"{name}: {found}".split()),
        study=flow(name) if "study" in Params.model_fields else "",
        machine=machine,
        layout=found.layout,
        args=_arguments(found, at, args),
        size=list(image.size),
        channels=channels,
        made=made,
        at=at,
        plan=made_plan,
        grid={"onto": image.images[0]} if found.good["regrid"].any() else None,
        scale=scaled,
        why=_why(found, made, at) | {"size": size_why, "scale": scale_why},
        families={model: f"fedsynth.families.{path}" for model, path in FAMILIES.items()},
        exporter=EXPORTERS[len(image.size)],
        uses=USES,
        measures={of: f"fedsynth.measures.{of}.{cls}" for of, cls in MEASURES.items()},
    )


def _why(found: Found, made: Labels, at: Sites) -> dict[str, str]:
    """Comments by key."""
    cells = at.cells
    own = found.good["split"].all()
    least = "the least are {train} to train and {test} to test".format(**{of: int(cells[of].min()) for of in cells})
    return {
        "labels": made.why.get("labels", ""),
        "channels": made.why.get("masks", ""),
        "split": "the data's own splits, where they have them" if own else _tested(at),
        "least": least,
        "refused": refused.attention(at),
    }


def _tested(at: Sites) -> str:
    if at.split["test"] >= TESTS[1]:
        return "small sites are still measured"
    return "no more to test, so that enough is left to train"


def flow(value: Any) -> str:
    """A value in YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10**6)
    return text.removesuffix("\n...\n").strip().replace("? '' :", '"":')


def commented(said: str, indent: int) -> str:
    """A comment of its own lines; the first one is not indented."""
    return textwrap.fill(f"# {said}", 120 - indent, subsequent_indent="# ").replace("\n", "\n" + " " * indent)
