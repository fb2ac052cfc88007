"""The score job as an oracle: a set and networks of the centre's choice, whose numbers say something of one patient.

`member`: five copies of one image as the synthetic set; images that were trained on count as copied. `read`: a network
whose features open for one image alone (a gate); the moments of the features, which leave for FID, are then that
image's. The network has the weights that the job may choose and the shape that the study has.
"""

from __future__ import annotations

import contextlib
import io
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from fedsynth.params import Params
from fedsynth.stages import sample
from fedsynth.training.weights import build_family
from fedsynth.worth import use_networks
from nvflare_jobs.score import client
from nvflare_jobs.train import job as training
from tests.attacks.hospital import Arrays, Hospital, study

LARGEST, SLOPE = 100.0, 50.0  # number in the network, as a policy asks; of a gate
COPIES = 5


def asking(seed: int = 1, images: int = 160, **measures: Any) -> Params:
    """A study whose score is cheap: a classifier of one step, 16 pixels."""
    use = {"class_path": "fedsynth.uses.classification.Classification", "args": {"steps": 1}}
    asked = {name: {"class_path": f"fedsynth.measures.{path}"} for name, path in measures.items()}
    score = {"seeds": [1], "uses": {"classification": use}, "measures": asked}
    model = {"family": {"class_path": "fedsynth.families.vae.VAE"}, "training": {"rounds": 1, "batch": 8}}
    return study(seed, images, 16, score=score, models={"attacked": model})


class Judged(NamedTuple):
    """What a score job is about: a set of images (N, C, H, W) of classes (N,), and the weights of a model."""

    images: np.ndarray
    labels: np.ndarray
    weights: Arrays | None = None  # None: those that a training begins with
    federated: Arrays | None = None  # None: an untrained network


def drawn(hospital: Hospital, params: Params, n: int = 40) -> Judged:
    """Returns a set of the class `none` that an honest model has drawn, after a round of training at the hospital."""
    begin = training.begin(params, "attacked")
    (difference,) = hospital.train(params, [begin])
    weights = {name: begin[name] + of for name, of in difference.items()}
    about = params.models["attacked"].model_dump(mode="json") | {"image": params.image.model_dump(mode="json")}
    family, labels = build_family(about, weights), np.zeros(n, np.int64)
    images = sample.draw_images(family, params, "attacked", labels, None)
    return Judged(images, labels, weights, hospital.refer(params))


def score(hospital: Hospital, params: Params, of: Judged, net: Any = None) -> dict[str, Any]:
    """Returns the answer of the hospital's score job, with the features of a `federated` network."""
    config = training.question(params, "attacked", hospital.digests)
    tasks = [SimpleNamespace(current_round=0, params=payload(params, of, net), meta={})]
    with contextlib.redirect_stdout(io.StringIO()):
        (message,) = hospital.ask(client.work, "score", params, config, tasks)
    return message.meta["answer"]


def payload(params: Params, of: Judged, net: Any = None) -> Arrays:
    """Returns what the centre sends with a score job; `net`: its `federated` classifier, default: an untrained one."""
    use = use_networks.uses(params)["classification"]
    of_use = {"classification": {1: use_networks.state_of(net or use.network(1))}}
    arrays: Arrays = {"set/images": of.images.astype(np.float32), "set/labels": of.labels}
    for row in ("federated", "synthetic"):
        arrays |= {f"net/{name}": array for name, array in use_networks.to_arrays(of_use, row).items()}
    if of.federated is not None and net is None:
        arrays |= {f"net/federated/{name}": array for name, array in of.federated.items()}
    return arrays | {
        f"model/{name}": array for name, array in (of.weights or training.begin(params, "attacked")).items()
    }


def member(hospital: Hospital, params: Params, image: np.ndarray, label: int) -> bool:
    """Returns whether the hospital trained on an image (C, H, W), as its number of copies tells."""
    answer = score(hospital, params, Judged(np.stack([image] * COPIES), np.full(COPIES, label)))
    return counted(answer)


def counted(answer: dict[str, Any]) -> bool:
    """Returns whether an answer says that the set holds copies of training images."""
    told = answer["measures"]["copies"]["values"]["copies_pixel"]["value"]
    return told not in (None, "none", 0, 0.0)


class Read(NamedTuple):
    """Features (M,) of one image that the moments gave, and how many jobs it took."""

    features: np.ndarray
    net: nn.Module
    jobs: int


def read(hospital: Hospital, params: Params, of: Judged, most: int = 12) -> Read | None:
    """Returns features of the one training image that a gate opens for, None if no gate was found.

    Each job tries as many thresholds as the network has features; that exactly one image has passed shows in
    sum g² = (sum g)². The last job has one gate and reads the other features there: sum g f / sum g.
    """
    use = use_networks.uses(params)["classification"]
    net, m = use.network(1), use.features
    peaks = _peaks(net, torch.from_numpy(hospital.public.channels(params.image, params.image.originals)))
    towards = peaks.std(0).argmax()
    low, high = float(peaks[:, towards].median()), float(peaks[:, towards].max() + peaks[:, towards].std())
    for job in range(1, most):
        thresholds = np.linspace(low, high, m)
        gate(net, int(towards), thresholds, 0)
        first, second = _sums(score(hospital, params, of, net))
        alone = np.diag(second) / np.maximum(first**2, 1e-300)
        found = [k for k in range(m) if first[k] > 0.05 and alone[k] > 1 - 1e-4]
        if found:
            gate(net, int(towards), thresholds[found[:1]], m - 1)
            first, second = _sums(score(hospital, params, of, net))
            return Read(second[0, 1:] / first[0], net, job + 1)
        open_ = int((first > 0.05).sum())
        low, high = thresholds[max(open_ - 1, 0)], thresholds[min(open_, m - 1)] + 1e-6
    return None


def patient(hospital: Hospital, params: Params, of: Judged | None = None) -> dict[str, float]:
    """What `read` gets: its jobs, its largest error, and how far the next patient is from it; nothing if it fails.

    Without a set, the centre's own images go along, because a set has to.
    """
    public = hospital.public
    found = read(hospital, params, of or Judged(np.asarray(public.images[:40]), public.labels(params.image)[:40]))
    if found is None:
        return {}
    train = hospital.real.split("train").channels(params.image, params.image.originals)
    group = _group(found.net)
    truth = _inputs(found.net, torch.from_numpy(train))[:, group : group + len(found.features)].numpy()
    apart = np.sort(np.abs(truth - found.features).max(1))
    return {"jobs": found.jobs, "features": len(found.features), "error": float(apart[0]), "next": float(apart[1])}


def _group(net: Any) -> int:
    """Returns how many channels the last block's GroupNorm takes together: the first so many are the gates'."""
    norm = net.features[-1].adn.N
    return int(norm.num_channels // norm.num_groups)


def _inputs(net: Any, x: torch.Tensor) -> torch.Tensor:
    """Returns the inputs (N, 8 w) of the network's layer of features: means and maxima of channels, normalised."""
    with torch.no_grad():
        h = net.features(net.standardise(x))
        return net.norm(torch.cat([net.mean(h), net.max(h)], 1).flatten(1))


def _peaks(net: Any, x: torch.Tensor) -> torch.Tensor:
    """Returns (N, 4 w) the largest value of each channel of the last convolution, in its own standard deviations."""
    with torch.no_grad():
        h = net.features[-1].conv(net.features[:-1](net.standardise(x))).flatten(2)
        return ((h - h.mean(2, keepdim=True)) / h.std(2, correction=0, keepdim=True)).amax(2)


def gate(net: Any, towards: int, thresholds: np.ndarray, reading: int) -> None:
    """Gates ReLU(SLOPE (peak - threshold)) on the peak of one channel, and `reading` features of other channels.

    The channels of the gates are copies of that one, so that GroupNorm gives its peak in its own standard deviations.
    The last of them is always 0: less it, a closed gate is 0 whatever the LayerNorm behind it takes from all.
    """
    block, group = net.features[-1], _group(net)
    channels, m = block.adn.N.num_channels, len(thresholds)
    with torch.no_grad():
        for of in (block.conv.weight, block.conv.bias):
            of[:group] = of[towards].clone()
        block.adn.N.weight[:group], block.adn.N.bias[:group] = 0.0, 0.0
        block.adn.N.weight[:m] = SLOPE
        block.adn.N.bias[:m] = torch.from_numpy(-SLOPE * thresholds).float()
        net.last.weight.zero_()
        net.last.bias.zero_()
        for k in range(m):
            net.last.weight[k, channels + k], net.last.weight[k, channels + group - 1] = 1.0, -1.0
        for k in range(reading):
            net.last.weight[m + k, group + k] = 1.0


def _sums(answer: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Returns sum f (F,) and sum f f^T (F, F) over the training images, from the moments that have left."""
    moments = answer["measures"]["fid"]["moments"]["train"]
    n, mean, covariance = moments["n"], np.array(moments["mean"]), np.array(moments["covariance"])
    return n * mean, (n - 1) * covariance + n * np.outer(mean, mean)
