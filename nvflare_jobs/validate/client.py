"""The site's half: validate the ingested set, or only return its digest. The detailed report stays at the site."""

from fedsynth.hospital import secret, withdrawals
from nvflare_jobs.site.site import Site, main


def work(site: Site) -> None:
    for _ in site.tasks():
        if site.config["look"]:
            gone = withdrawals.told(site.state)
            site.answer("look", {"digest": digest(site)} | ({"withdrawn": gone} if gone else {}))
        else:
            from fedsynth.validation.expectations import validate

            verdict = validate(site.data, site.params, site.name, site.state / "validation")
            print(verdict.message(), flush=True)
            left = verdict.outgoing(site.min_cell)
            site.answer("validate", left | {"digest": secret.keyed(site.state, verdict.digest)})


def digest(site: Site) -> str:
    """Return the keyed digest of the manifest, "" where there is none yet."""
    from fedsynth.data import manifest

    there = (site.data / manifest.FILE).is_file()
    return secret.keyed(site.state, manifest.digest(manifest.read(site.data))) if there else ""


if __name__ == "__main__":
    main(work, "validate")
