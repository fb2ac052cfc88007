"""In the hospital: train the model on the site's own images, round by round, and send differences."""

from nvflare_jobs.site import Site, main


def work(site: Site) -> None:
    import torch

    from fedsynth.params import Model
    from fedsynth.train import Trainer

    model, image = Model.model_validate(site.config["model"]), site.params.image
    real = site.validated_set().split("train")
    given = torch.from_numpy(real.channels(image, image.given)) if image.given else None
    torch.manual_seed(site.params.seed)
    trainer = Trainer(
        model.family.build(**image.context()),
        model.algorithm.build(),
        model.training,
        torch.from_numpy(real.channels(image, image.generated)),
        torch.from_numpy(real.labels(image)),
        given,
        seed=site.seed(),
        state=site.state / "train" / f"{site.config['name']}-{site.config['key']}.pt",
        privacy=model.privacy.build() if model.privacy else None,
    )
    for received in site.tasks():
        update = trainer.round(received.params, received.current_round)
        facts = {"losses": update.losses, "steps": update.steps, "weight": update.weight, "epsilon": update.epsilon}
        site.update(update.difference, received.params, facts, trainer.players)


if __name__ == "__main__":
    main(work)
