"""Definitions of all numbers in the report, shared by the page and its text."""

from __future__ import annotations

import inspect
from typing import Any

from fedsynth.params import Block, Image, Params
from fedsynth.report.use_tables import TOGETHER
from fedsynth.worth.calibration import BINS
from fedsynth.worth.intervals import DRAWS
from fedsynth.worth.ratios import SMALLEST_GAP
from fedsynth.worth.use_networks import SHARES
from fedsynth.worth.wording import METRICS

Terms = list[tuple[str, str]]


def definitions(params: Params, uses: list[dict[str, Any]], measures: dict[str, Any]) -> Terms:
    """Return (term, definition) for each number in the report.

    `uses`: from use_table; `measures`: from measure_tables. Raises ParamsError for a block of params.yaml that cannot
    be built.
    """
    shown = {table["metric"] for use in uses for table in use["tables"]}
    titles = "; ".join(dict.fromkeys(measures["extractors"].values())) or "none named"
    seeds = ", ".join(map(str, params.score.seeds))
    return [
        *_rows(params),
        *_shares(" or ".join(dict.fromkeys(use["against"] for use in uses)) or "pooled"),
        *(METRICS[metric] for metric in METRICS if metric in shown),
        *_around(params),
        *_calibration(shown),
        *((f"budget, {name}", budget(block, params.image)) for name, block in params.score.uses.items()),
        ("extractor", titles),
        *_measures(params, measures),
        (
            "seeds",
            (
                f"{seeds}: of the uses' networks; mask and class agreement and the extractor take the federated network"
                " of the first. Each generative model was trained once, and images were drawn for the measures, with"
                f" seed {params.seed}"
            ),
        ),
    ]


def _rows(params: Params) -> Terms:
    return [
        (
            "score",
            (
                "on the real test images of a site, which no model and no network was trained on; patients were split,"
                " not images. Each network starts from the same weights for the same seed and takes the same number of"
                " steps, whatever it is trained on"
            ),
        ),
        ("local", "trained on one site's real training images, tested at that site"),
        (
            "federated",
            (
                "trained on all sites' real training images by FedAvg of the use's network, which leaves every image"
                f" where it is, in {params.score.rounds} rounds; tested at every site"
            ),
        ),
        (
            "pooled",
            (
                "trained on all sites' real training images together: in simulation only, since a federation cannot"
                " pool images"
            ),
        ),
        ("synthetic", "trained on the synthetic set alone, tested at every site"),
        *_public(params),
        (
            "augmented",
            (
                "trained on one site's real training images and the synthetic set: of the images drawn of a class, "
                f"{_real(params.score.real_share)} are real; tested at that site"
            ),
        ),
        *_lacking(params.image.may_lack),
        (
            "mean",
            (
                "over the sites, each counted once, however many images it has; ± is the standard deviation over the"
                " seeds of that mean, not of the sites"
            ),
        ),
    ]


def _public(params: Params) -> Terms:
    if params.score.public is None:
        return []
    return [
        (
            "public",
            (
                f"trained at the centre on images that cost no patient anything ({_named(params.score.public)}), tested"
                " at every site. Synthetic − public is what a set holds beyond them, mean over the sites; its 95 %"
                " interval is for other test images, by the covariance of both at each site. Where it is not above 0,"
                " the set has taught its networks nothing of the patients"
            ),
        ),
    ]


def _named(block: Block) -> str:
    return block.class_path.rpartition(".")[2]


def _real(share: float | str) -> str:
    if share == "val":
        return f"as many as the site's validation images like best of {', '.join(f'{100 * s:.0f}' for s in SHARES)} %"
    return f"{100 * float(share):.0f} %"


def _lacking(channels: list[str]) -> Terms:
    names = " or ".join(channels)
    return (
        [
            (
                f"without {names}",
                (
                    "some images are. Every row's training images come without it, too, and altogether as often as"
                    " before; where no image of a site has it, the set is held against that site's images without it"
                ),
            ),
        ]
        if channels
        else []
    )


def _shares(against: str) -> Terms:
    as_good = TOGETHER.get(against, against)
    return [
        (
            "retained",
            (
                f"(mean synthetic − chance) / (mean {against} − chance): 0 % is no better than chance. Chance is the"
                " score of a network that has learned nothing: a balanced accuracy of 1 / the number of classes, a Dice"
                f" of 0 (an empty mask), 0 of what is explained. At chance: {against} is less than {SMALLEST_GAP} above"
                " it, and there is nothing of which a share could be kept"
            ),
        ),
        (
            "gap closed",
            (
                f"(augmented − local) / ({against} − local), of the means: 0 % is no better than a site's own images,"
                f" 100 % as good as {as_good}; no gap where {against} is less than {SMALLEST_GAP} above local: a test"
                " image or two make that"
            ),
        ),
        ("poorest site", "the site whose own images serve it worst: the lowest local"),
    ]


def _calibration(shown: set[str]) -> Terms:
    if "ece" not in shown:
        return []
    return [
        (
            "calibration by group",
            (
                "the calibration error of the probabilities as the network gives them (no temperature is fitted), with"
                f" {BINS} bins, of the test images of a site, a class and, where a site's data name them, a sex and an"
                " age band. The interval has the variance of a bootstrap of patients, and of the seeds where there are"
                " several. Of few images the error is too large by chance: compare groups of like size, and the"
                " reference beside them. Sexes and ages leave no hospital, the numbers of large groups alone do"
            ),
        ),
    ]


def _around(params: Params) -> Terms:
    """Return the definitions of intervals, floors and counts."""
    seeds = len(params.score.seeds)
    of_seeds = (
        "with one seed of the uses' networks the interval lacks how much networks of other seeds would differ"
        if seeds == 1
        else f"beside it the differences between the {seeds} seeds of the uses' networks (a row's variance is the mean"
        f" of its own and of all rows', Student's t with {2 * (seeds - 1)} degrees of freedom)"
    )
    another = (
        "Those of one model do not hold another training of it; those of several trainings together do"
        if params.trainings()
        else "They do not hold another training of the generative model, of which there was one"
    )
    worth = (
        "of scores and shares, 95 %: each site leaves out its test patients in turn (a jackknife, the same for all"
        " networks) and sends the covariance of the networks' metrics alone, widened by Student's t where there are few"
        f" patients; {DRAWS} draws with it around each site's metrics, on the logit scale, give the 2.5 and 97.5 %"
        f" quantiles; {of_seeds}. Where draws have no gap, or nothing above chance, that end has no bound. {another}"
    )
    measures = (
        "95 %. Where the floor is of training images: for other held-out patients and other synthetic images, by"
        " leaving out part of both; of MS-SSIM, agreement and nearest-neighbour ratios: for other synthetic images, by"
        " a bootstrap of them or of their pairs; of membership: by a bootstrap of the real patients; of copies: as its"
        " definition says. Of few patients they are wider, as Student's t is. None holds another training"
    )
    several = (
        "mean of the trainings whose blocks in params.yaml differ in `seed` alone. Half of its interval is the root of"
        " the mean half of their own intervals squared (they are tested on the same patients) and of Student's t times"
        " the standard error between the trainings squared. Gates are held against each training by itself: it is one"
        " of them that is promoted"
    )
    floor = (
        "a measure of real images in the place of the synthetic ones: the site's training images, or its held-out ones"
        " where the definition says so; of membership what chance gives; of pairs as their definitions say. No set can"
        " be asked to be better than that"
    )
    n = (
        "under each site: the test images behind its score. N of a measure: real are the held-out images (of MS-SSIM"
        " the training images, of membership members and non-members together); train and synthetic are as many as one"
        " draw takes, where a measure draws"
    )
    found = [("intervals, worth", worth), ("intervals, measures", measures), ("floor", floor), ("n", n)]
    return found + [("several trainings", several)] * bool(params.trainings())


def _measures(params: Params, measures: dict[str, Any]) -> Terms:
    """Return the definition of each number with the arguments of its measure."""
    blocks, found = params.score.measures, []
    for line in measures["lines"] + measures["paired"] + measures["audit"]:
        args = arguments(blocks[line["measure"]], params.image) if line["measure"] in blocks else {}
        if text := line["text"].removesuffix("."):
            found.append((line["title"], f"{text} ({said(args)})" if args else text))
    return found


def budget(block: Block, image: Image) -> str:
    """Describe the training budget of a use's networks, defaults included."""
    of = block.build(**image.context()).budget
    rest = {name: value for name, value in arguments(block, image).items() if name not in vars(of)}
    return (
        f"{block.class_path.rpartition('.')[2]}: {of.steps} steps of {of.batch} images for every row, each class drawn"
        f" as often as the others; learning rate up to {of.lr:g}, rising over a tenth of the steps and falling to 0;"
        f" weight decay {of.weight_decay:g}" + (f"; {said(rest)}" if rest else "")
    )


def arguments(block: Block, image: Image) -> dict[str, Any]:
    """Return the arguments of an object of params.yaml, defaults included, without those that fedsynth supplies."""
    context = image.context()
    known = inspect.signature(type(block.build(**context))).parameters
    return {name: block.args.get(name, of.default) for name, of in known.items() if name not in context}


def said(args: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}" for name, value in args.items()
    )
