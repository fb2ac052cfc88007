"""The site's half: train the uses' networks on the site's own images, round by round; then evaluate all references."""

import time

from nvflare_jobs.site.site import Site, arrays_of, main


def work(site: Site) -> None:
    if "rounds" in site.config:
        train(site)
    else:
        judge(site)


def train(site: Site) -> None:
    """Train the `federated` reference. Parameter differences and mean losses leave the site."""
    from fedsynth.hospital.policy.drift import Drift
    from fedsynth.stages.reference import Federated, begin

    state = site.state / "reference" / f"{site.config['key']}.pt"
    federated = Federated(site.params, site.validated_set(), state)
    kept = state.with_suffix(".global.safetensors")
    drift = Drift(site.gate.policy.floors, kept, lambda: begin(site.params), federated.movement)
    for received in site.tasks():
        with site.gate.recorded():
            drift.hold(received.params, received.current_round)
        difference, losses, steps = federated.round(received.params, received.current_round)
        facts = {"losses": losses, "steps": steps, "weight": float(len(federated.images))}
        drift.sent(received.params, difference, received.current_round)
        site.update(difference, received.params, facts, site.params.score.uses)


def judge(site: Site) -> None:
    """Evaluate `local`, which is trained here, and the networks that the centre sent.

    Metrics with their counts leave the site.
    """
    from fedsynth.stages import reference
    from fedsynth.worth import use_networks

    real = site.validated_set()
    for received in site.tasks():
        started = time.monotonic()
        sent = use_networks.by_row(arrays_of(received.params, "net/"))
        rows = reference.at_site(site.params, site.name, real, sent, site.state / "reference")
        site.answer("reference", {"rows": rows, "seconds": round(time.monotonic() - started, 1)})


if __name__ == "__main__":
    main(work, "reference")
