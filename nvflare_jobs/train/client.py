"""The site's half: train the model on the site's own images, round by round, and send parameter differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedsynth.hospital import canaries, states, trained
from nvflare_jobs.site.site import Site, main

if TYPE_CHECKING:
    from fedsynth.data.dataset import ImageSet
    from fedsynth.hospital.ledger.account import TrainingAccount
    from fedsynth.hospital.policy.drift import Drift
    from fedsynth.hospital.policy.model import Privacy
    from fedsynth.params import Model, Training
    from fedsynth.privacy import Mechanism
    from fedsynth.training.trainer import Trainer


def work(site: Site) -> None:
    import torch

    from fedsynth.families import leave_out
    from fedsynth.families._first_layer import first_layer_share
    from fedsynth.hospital import outgoing
    from fedsynth.hospital.policy.drift import Drift
    from fedsynth.hospital.policy.floors import first_layer
    from fedsynth.params import Model
    from fedsynth.training.alone import tensors
    from fedsynth.training.group import shared
    from fedsynth.training.initial import built, initial
    from fedsynth.training.trainer import Trainer

    model, image = Model.model_validate(site.config["model"]), site.params.image
    torch.manual_seed(site.model_seed)
    family = built(model, image)
    with site.gate.recorded():
        first_layer(site.gate.policy.floors, first_layer_share(family, image), site.config["name"])
    real = site.validated_set()
    trained.remember(site.state, site.config["name"], real.manifest)
    train, val = (real.split(name).with_given(image) for name in ("train", "val"))
    taught = canaries.among(train, site.params, site.state, site.config["name"])
    algorithm, compression = model.algorithm.build(), model.compression
    mechanism = model.privacy.build() if model.privacy else None
    account = account_of(site, model, train) if mechanism else None
    what = {
        "family": leave_out(family, [*train.lacking(image), *val.lacking(image)]),
        "algorithm": algorithm,
        "training": model.training,
        **dict(zip(("x", "y", "given"), tensors(taught, image), strict=True)),
        "seed": site.seed(),
        "state": site.state / "train" / f"{site.config['name']}-{site.config['key']}.pt",
        "told": outgoing.told(len(train), site.cells, site.min_cell, "train"),
    }
    with shared(what, mechanism, site.settings.processes, site.settings.stall_s) as group:
        trainer = Trainer(
            **what,
            privacy=mechanism,
            held_out=tensors(val, image) if algorithm.weighting == "validation" else None,
            subjects=torch.from_numpy(taught.subjects()),
            compression=compression.up.build() if compression and compression.up else None,
            account=account,
            group=group,
        )
        drift = Drift(
            site.gate.policy.floors,
            what["state"].with_suffix(".global.safetensors"),
            lambda: initial(model, image, site.model_seed),
            trainer.movement,
            (site.config.get("start") or {}).get("taken") if model.start or model.pretrain else None,
        )
        rounds(site, model, trainer, drift)
    states.prune(site.state, site.settings.keep_runs)


def rounds(site: Site, model: Model, trainer: Trainer, drift: Drift) -> None:
    """Train the rounds that the centre asks for, and send what comes of each."""
    from fedsynth.training.coding import Received
    from fedsynth.training.frozen import parted

    algorithm, compression, mechanism = trainer.algorithm, model.compression, trainer.privacy
    encryption = model.encryption.build() if model.encryption else None
    downlink = Received(compression.down.build()) if compression and compression.down else None
    for received in site.tasks():
        number = received.current_round
        incoming, frozen = parted(received.params)
        if downlink is not None:
            incoming = downlink.decode(incoming, number, received.meta["coding"])
        with site.gate.recorded():
            planned(number, model.training)
            drift.hold(incoming | frozen, number, frozen)
            account = mechanism.account if mechanism else None
            if account and mechanism and trainer.rounds_done is None:
                hold_cap(site.gate.policy.privacy, account, mechanism, model.training, trainer.told, number)
        update = trainer.round(incoming, number, frozen)
        facts = {
            "losses": update.losses,
            "steps": update.steps,
            "weight": update.weight,
            "epsilon": update.epsilon,
            "epsilon_total": update.epsilon_total,
            "score": update.score,
        }
        drift.sent(incoming | frozen, update.difference, number)
        site.update(
            update.difference,
            incoming,
            facts,
            trainer.players,
            encryption,
            algorithm.weighting == "equal",
            update.coded,
        )


def planned(number: int, training: Training) -> None:
    """Raise PolicyError for a round that the training does not have; `number` is the centre's, from 0."""
    from fedsynth.hospital.policy.model import PolicyError

    if not 0 <= number < training.rounds:
        said = f"round {number + 1} is none of the {training.rounds} of this training"
        raise PolicyError("floors.rounds", said)


def account_of(site: Site, model: Model, train: ImageSet) -> TrainingAccount:
    """Return this training's account in the site's ledger. Raises PrivacyError where the ledger cannot be trusted."""
    from fedsynth.hospital import outgoing
    from fedsynth.hospital.ledger import Ledger
    from fedsynth.hospital.ledger.account import TrainingAccount

    images = outgoing.most_told(train.subjects(), train.manifest["label"], site.cells, site.min_cell, "train")
    name, key, digest = site.config["name"], site.config["key"], site.config["digests"][site.name]
    return TrainingAccount(Ledger(site.state), key, name, model.training.rounds, digest, images)


def hold_cap(cap: Privacy, account: TrainingAccount, mechanism: Mechanism, training: Training, n: int,
             number: int) -> None:  # fmt: skip
    """Raise PolicyError where the training, from round `number` on, exceeds what all of them may spend."""
    from fedsynth.hospital.policy.model import PolicyError
    from fedsynth.privacy import PrivacyError

    if cap.epsilon is None:
        return
    planned = account.plan(mechanism, training, n, number)
    try:
        account.ledger.allow(planned, cap.epsilon, cap.days, cap.delta)
    except PrivacyError as error:
        raise PolicyError("privacy.epsilon", str(error)) from error


if __name__ == "__main__":
    main(work, "train")
