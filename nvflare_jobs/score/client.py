"""In the hospital: test the networks that the centre sent, train the site's own, and send metrics with their counts."""

import time

from nvflare_jobs.site import Site, main


def work(site: Site) -> None:
    from fedsynth.dataset import synthetic
    from fedsynth.stages import score

    params, kind, name = site.params, site.config["kind"], site.config["name"]
    real = site.validated_set()
    for received in site.tasks():
        started = time.monotonic()
        networks = score.from_arrays({n.removeprefix("net/"): a for n, a in received.params.items() if n.startswith("net/")})
        if kind == "reference":
            rows = score.reference_at_site(params, site.name, real, networks)
        else:
            images, places = received.params["set/images"], received.params["set/labels"]
            drawn = synthetic(params, images, places, name, "job")
            rows = score.score_at_site(params, site.name, real, drawn, networks, name)
        site.answer("score", {"rows": rows, "seconds": round(time.monotonic() - started, 1)})


if __name__ == "__main__":
    main(work)
