"""Trainer: a site's local training loop, which combines family, algorithm and privacy mechanism."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fedsynth.algorithms import Algorithm
from fedsynth.compression import Compression
from fedsynth.data.dataset import batches
from fedsynth.families import Family, Phase, trainable
from fedsynth.networks.device import device, moved, numbers, random_devices, random_state, set_random_state
from fedsynth.networks.optimizer import LeanAdamW, reach
from fedsynth.networks.precision import autocast, scaler
from fedsynth.networks.recompute import recomputed
from fedsynth.params import Training
from fedsynth.privacy import Account, Mechanism
from fedsynth.training import checkpoint
from fedsynth.training.coding import Uplink
from fedsynth.training.group import Group
from fedsynth.training.parts import Batch, ahead, parts
from fedsynth.training.schedules import Averaged, decay, mirror, rates


@dataclass
class Update:
    """The result of one round at a site.

    Attributes:
        difference: change of the parameters by name.
        losses: mean loss by player; with a privacy mechanism only those that it releases.
        steps: optimiser steps of the round.
        weight: number of training images, as told.
        epsilon: with a privacy mechanism, what the training has spent so far, for the mechanism's unit.
        epsilon_total: with an account, what all trainings at this site have spent so far, for one subject.
        score: peak signal-to-noise ratio in dB.
        coded: with a compression, the encoded difference and the compression that was used.
    """

    difference: dict[str, np.ndarray]
    losses: dict[str, float]
    steps: int
    weight: float
    epsilon: float | None = None
    epsilon_total: float | None = None
    score: float | None = None  # on validation images, if the algorithm uses it as weight
    coded: tuple[dict[str, np.ndarray], Compression] | None = None


class Trainer:
    """Holds a site's players, optimisers, averaged weights and random state, in memory and, with `state`, on disk.

    Args:
        x, y, given: generated channels (N, C, *S), labels (N,) and given channels (N, G, *S) or None; those of a large
            set are read from disk (data/stored.py).
        state: path of the checkpoint file.
        held_out: x, y and given of the validation images.
        subjects: (N,) subject of each image, for a privacy mechanism with the subject as its unit.
        told: number of images as the centre may know it, by which steps, weight and sampling rate are chosen: all of
            them can be seen outside, and from N the size of a class with few images would follow. Default: N.
        group: the processes that train together, each with its share of every batch; None: this one alone.
        account: where what the mechanism spends is written before it leaves; without one only the checkpoint knows it.
    """

    def __init__(
        self,
        family: Family,
        algorithm: Algorithm,
        training: Training,
        x: Tensor,
        y: Tensor,
        given: Tensor | None,
        seed: int,
        state: Path | None = None,
        privacy: Mechanism | None = None,
        held_out: Batch | None = None,
        subjects: Tensor | None = None,
        compression: Compression | None = None,
        told: int | None = None,
        account: Account | None = None,
        group: Group | None = None,
    ):
        self.device = device()
        self.family = recomputed(family.to(self.device)) if training.recompute else family.to(self.device)
        self.algorithm, self.training, self.state, self.privacy = algorithm, training, state, privacy
        self.x, self.y, self.given, self.held_out, self.seed, self.group = x, y, given, held_out, seed, group
        self.generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        self.players = self.family.players()
        self.rates = rates(training, self.players)
        # not of a player that is frozen as a whole
        self.trained = {name: own for name, net in self.players.items() if (own := trainable(net))}
        self.optimizers = {
            name: LeanAdamW(own, lr=self.rates[name], betas=training.betas, weight_decay=training.weight_decay)
            for name, own in self.trained.items()
        }
        self.scalers = {name: scaler(training, self.device) for name in self.players}
        self.average = Averaged(self.family, training.ema) if training.ema else None
        self.told = max(1, len(x) if told is None else told)
        self.steps = training.steps(self.told)  # per round
        if privacy is not None:
            privacy.account = account
            rate = training.rate(self.told)
            privacy.protect(self.family, dict(self.optimizers), training, len(x), self.steps, subjects, rate)
        self.uplink = Uplink(compression) if compression is not None else None
        self.rounds_done: int | None = None  # None: no round in this process yet
        self.view: tuple[Tensor, Tensor | None] | None = None  # what the phase's losses take instead of the images

    @property
    def movement(self) -> float:
        """An upper bound of how far a round moves the parameters (L2)."""
        return reach(trainable(self.family), max(self.rates.values()) * self.steps)

    def round(
        self, incoming: dict[str, np.ndarray], number: int, frozen: Mapping[str, np.ndarray] | None = None
    ) -> Update:
        """Train round `number` (from 0) from the global parameters and return the difference to them.

        `frozen`: parameters that are not trained, which come once; they are kept with the site's state.
        """
        if self.group is not None:
            self.group.begin(incoming, number, frozen)
        if self.rounds_done is None:
            self._restore(number)
        self._take(frozen or {})
        received = {name: torch.from_numpy(np.ascontiguousarray(a)).to(self.device) for name, a in incoming.items()}
        self.algorithm.begin(self.family, received)
        self.family.train()
        phase, first, end = self._begin_phase(number)
        losses: dict[str, list[Tensor]] = defaultdict(list)
        for step, batch in enumerate(self._batches(number)):
            share = decay(self.training, (number - first + step / self.steps) / (end - first))
            for name in (player for player in phase.players if player in self.optimizers):
                loss = self._step(name, batch, self.rates[name] * share, [number, step])
                losses[name] += [] if loss is None else [loss]
            if self.average is not None:
                self.average.update_parameters(self.family)
        difference = self._end(received, last=number == end - 1)
        leaves = {name: d.float().cpu().numpy() for name, d in difference.items()}
        if self.privacy is not None:
            resting = self._resting(phase)
            leaves |= self.privacy.release(
                {name: a for name, a in leaves.items() if name.rpartition(":")[2] not in resting}
            )
        coded = self._coded(leaves, last=number == self.training.rounds - 1)
        means = {k: float(np.mean(numbers(v))) for k, v in losses.items() if v}
        if self.privacy is not None:
            self.privacy.settle(number, losses=bool(means))  # nothing has left the site yet
        self.rounds_done = number + 1
        self._keep()  # after the account, which must never know less than the checkpoint
        return Update(
            leaves,
            means,
            self.steps,
            float(self.told),
            None if self.privacy is None else self.privacy.spent(),
            None if self.privacy is None else self.privacy.total(),
            self._score(),
            coded,
        )

    def _take(self, frozen: Mapping[str, np.ndarray]) -> None:
        """Set parameters that are not trained. Raises ValueError for others."""
        parameters = dict(self.family.named_parameters())
        if strange := sorted(set(frozen) - self.family.frozen):
            raise ValueError(
                f"the server sent {strange[0]} as frozen, which is trained; are both sides of one version?"
            )
        with torch.no_grad():
            for name, array in frozen.items():
                parameters[name].copy_(torch.from_numpy(np.array(array)).reshape(parameters[name].shape))

    def _coded(self, difference: dict[str, np.ndarray], last: bool) -> tuple[dict[str, np.ndarray], Compression] | None:
        """Encode the difference; None without compression.

        Also None for a diverged training, which the plain difference reveals (fedsynth/hospital/outgoing).
        """
        if self.uplink is None or not all(np.isfinite(d).all() for d in difference.values()):
            return None
        return self.uplink.encode(difference, last)

    def _score(self) -> float | None:
        """Returns the validation score 10 log10(2^2 / error) in dB of the locally trained model.

        The noise is the same in each round and does not advance the training's random state.
        """
        if self.held_out is None or not len(self.held_out[0]):
            return None
        with torch.random.fork_rng(devices=random_devices(self.device)), torch.no_grad():
            torch.manual_seed(0)
            x, y, given = (None if part is None else part.to(self.device) for part in self.held_out)
            error = float(self.family.eval().error(x, y, given))  # type: ignore[arg-type]
        return 10 * math.log10(4 / max(error, 1e-10)) if math.isfinite(error) else None

    def _begin_phase(self, number: int) -> tuple[Phase, int, int]:
        """Returns the round's phase, its first round and the round after its last.

        A new phase restarts the weight average; a phase's view is computed anew in every round.
        """
        found = phase, first, _ = self.family.phase(number, self.training.rounds)
        if (
            self.average is not None
            and self.rounds_done
            and self.family.phase(self.rounds_done - 1, self.training.rounds)[1] != first
        ):
            self.average.n_averaged.zero_()
        self.view = None
        if phase.view is not None:
            with torch.no_grad():
                parts = [phase.view(x, given) for x, _, given in map(self._batch, torch.arange(len(self.x)).split(64))]
            given = [part for _, part in parts if part is not None]
            self.view = torch.cat([x for x, _ in parts]), torch.cat(given) if given else None
        return found

    def _resting(self, phase: Phase) -> set[str]:
        """Returns the parameters that cannot have changed in this round, whatever the images.

        They need no noise, and noise would move them. Local parameters are not among them: their difference in the last
        round contains all that was learned since the start.
        """
        stepping = {p for name in phase.players for p in self.players[name].parameters()}
        return {
            name
            for name, p in self.family.named_parameters()
            if p not in stepping and not self.algorithm.is_local(name)
        }

    def _places(self, number: int) -> Iterator[Tensor]:
        if self.privacy is not None:
            self.privacy.begin(number)
            if self.privacy.at_steps:
                return self.privacy.batches(self.steps)
        return batches(len(self.x), self.training.batch, self.steps, self.generator)

    def _batches(self, number: int) -> Iterator[Batch]:
        """Yield the batches of the steps, on the device. For a GPU they are made while it computes.

        Not those of a mechanism, which counts each as spent when it is drawn.
        """
        made = map(self._batch, self._places(number))
        return made if self.device.type == "cpu" or self._at_steps else ahead(made)

    @property
    def _at_steps(self) -> bool:
        return self.privacy is not None and self.privacy.at_steps

    def _step(self, name: str, batch: Batch, lr: float, at: list[int]) -> Tensor | None:
        """Take a player's step on its batch; `at` are round and step. Returns the loss if it may leave the site."""
        player, optimizer = self.players[name], self.optimizers[name]
        for group in optimizer.param_groups:
            group["lr"] = lr
        loss = self._private(name, player, *batch) if self._at_steps else self._gradient(name, player, batch, at)
        self.scalers[name].step(optimizer)
        self.scalers[name].update()
        self.algorithm.after_step(self.family, player, lr)
        return loss if self.privacy is None or self._at_steps else None

    def _gradient(self, name: str, player: nn.Module, batch: Batch, at: list[int]) -> Tensor:
        """Store the gradient of the batch's mean loss, over all its parts and processes. Returns that loss."""
        own = self.trained[name]
        self.optimizers[name].zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        seed = [self.seed, *at, list(self.players).index(name)]
        for (x, y, given), share in parts(batch, self.training.accumulate, self.group, seed):
            with autocast(self.training, self.device):
                loss = self.family.loss(name, x, y, given)
            whole = share * (loss + self.algorithm.penalty(self.family, player))
            self.scalers[name].scale(whole).backward(inputs=own)
            total += share * loss.detach()
        if self.group is not None:
            self.group.add(own, total)
        self.scalers[name].unscale_(self.optimizers[name])
        if self.training.clip:
            torch.nn.utils.clip_grad_norm_(own, self.training.clip)
        return total

    def _private(self, name: str, player: nn.Module, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor | None:
        """Compute the mechanism's gradient and add the penalty's.

        The penalty depends on weights only, so its gradient needs neither clipping nor noise.
        """
        assert self.privacy is not None
        loss = self.privacy.gradient(name, x, y, given)
        penalty = self.algorithm.penalty(self.family, player)
        if isinstance(penalty, Tensor):
            penalty.backward(inputs=self.trained[name])
        return loss

    def _batch(self, places: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        if self.view is not None:
            x, given = self.view
            at = moved(places, x.device)
            return x[at], moved(self.y[places], self.device), None if given is None else given[at]
        both = self.x[places] if self.given is None else torch.cat([self.x[places], self.given[places]], 1)
        both = moved(mirror(both, self.training.flip, self.generator), self.device)
        c = self.x.shape[1]
        return both[:, :c], moved(self.y[places], self.device), None if self.given is None else both[:, c:]

    def _end(self, received: dict[str, Tensor], last: bool) -> dict[str, Tensor]:
        """Returns the round's difference; in the last round of a phase that of the averaged (EMA) weights.

        EMA is linear: the mean of the sites' averages is the average of their mean, so this needs no extra
        communication.
        """
        if last and self.average is not None:
            averaged = dict(self.average.module.named_parameters())
            with torch.no_grad():
                for name, parameter in self.algorithm.parameters(self.family).items():
                    parameter.copy_(averaged[name])
        return self.algorithm.end(self.family, received)

    def _keep(self) -> None:
        if self.state is None or (self.group is not None and self.group.rank):
            return
        state = {
            "rounds_done": self.rounds_done,
            "family": self.family.state_dict(),
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
            "average": self.average.state_dict() if self.average is not None else None,
            "algorithm": self.algorithm.state(),
            "generator": self.generator.get_state(),
            "rng": torch.get_rng_state(),
            "rng_of_device": random_state(self.device),
            "scalers": {name: scaler.state_dict() for name, scaler in self.scalers.items()},
        }
        if self.privacy is not None:
            state["privacy"] = self.privacy.state()
        if self.uplink is not None:
            state["rest"] = {name: torch.from_numpy(rest) for name, rest in self.uplink.rest.items()}
        checkpoint.save(self.state, state)

    def _restore(self, number: int) -> None:
        """Load the state of an earlier process; the first round of a training starts from scratch.

        What was spent counts in the first round, too, if there is an account.
        """
        state = checkpoint.load(self.state) if self.state and (number or self.privacy) else None
        if self.privacy is not None:
            self.privacy.resume(state and state["privacy"], number)
        if not number:
            return
        # a site that does not train in each round may hold the same round of an older training
        most = number + 1 if self.algorithm.always else number
        if state is None or state["rounds_done"] > most:  # no state, or one of an older training that got further
            return
        self.family.load_state_dict(state["family"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.algorithm.load_state(state["algorithm"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["rng"])
        set_random_state(self.device, state.get("rng_of_device"))
        for name, kept in state.get("scalers", {}).items():  # {} in single precision
            if kept and self.scalers[name].is_enabled():
                self.scalers[name].load_state_dict(kept)
        if self.uplink is not None:
            self.uplink.rest = {name: rest.numpy() for name, rest in state.get("rest", {}).items()}
        self.rounds_done = state["rounds_done"]
