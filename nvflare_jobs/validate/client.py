"""In the hospital: validate the ingested set; the detailed report stays here."""

from nvflare_jobs.site import Site, main


def work(site: Site) -> None:
    from fedsynth.expectations import validate

    for _ in site.tasks():
        verdict = validate(site.data, site.params, site.name, site.state / "validation")
        print(verdict.message(), flush=True)
        site.answer("validate", verdict.outgoing(site.params.consortium.min_cell))


if __name__ == "__main__":
    main(__file__, work)
