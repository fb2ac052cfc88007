"""The site's half: validate the ingested set, or only return its digest. The detailed report stays at the site."""

from fedsynth.hospital import withdrawals
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
            site.answer("validate", verdict.outgoing(site.min_cell))


def digest(site: Site) -> str:
    """Return the digest of the manifest, "" where there is none yet."""
    from fedsynth.data import manifest

    return manifest.digest(manifest.read(site.data)) if (site.data / manifest.FILE).is_file() else ""


if __name__ == "__main__":
    main(work, "validate")
