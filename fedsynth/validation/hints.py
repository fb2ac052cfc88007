"""What to do where an expectation is not met, by its plain name."""

from __future__ import annotations

AGAIN = "run ingest again; if it comes back, the files at the site have changed in between"

# Every expectation by its plain name, with what to do where it is not met. Only these names leave a hospital
# (fedsynth/hospital/outgoing).
HINTS = {
    "columns of the manifest": "run ingest again; the manifest's columns are in fedsynth/data/manifest.py",
    "at least one image": "the site has no image: check where its source looks, then ingest",
    "files can be read": "mend or remove the file, then ingest again",
    "unique image ids": AGAIN,
    "known labels": "correct the label at the source, or add it to image.labels in params.yaml",
    "known splits": AGAIN,
    "known origin": AGAIN,
    "modality as configured": "the image channels in params.yaml are others: run ingest again with these params",
    "shape as configured": "image.size or image.channels in params.yaml are others: run ingest again with these params",
    "pixels match the manifest": AGAIN,
    "unique hashes": "the same pixels are there more than once: keep one of the files, then ingest again",
    "finite intensities in [-1, 1]": (
        "ingest scales every image to [-1, 1]; run it again, or look at what wrote this set"
    ),
    "no blank image": "a channel has one value everywhere: look at the file, replace or remove it, then ingest again",
    "each subject in one split": (
        "a patient's images must not part: give them one subject at the source, then ingest again"
    ),
    "masks are -1 or 1": AGAIN,
    "masks match their label": (
        "mend the label or the mask; image.empty_labels in params.yaml names the labels whose mask is empty"
    ),
    "nothing doubtful on reading": "look at the images named, with their masks outlined: fedsynth look",
    "masks are known": (
        "these images have no mask, which is taken for unknown: they are left out of segmentation; "
        "say image.unmarked: healthy in params.yaml if nothing is marked in them"
    ),
    "similar spacing": "voxels are of another size than in most images of the set: check the spacing at the source",
    "resolution kept": "small findings may be lost at this size: choose a larger image.size",
    "usual mean intensity": "far brighter or darker than most images of the set: look at it",
    "enough images of each class and split": (
        "add images of this class, choose other shares in split, lower expectations.min_images, "
        "set expectations.every_class to false where a site may have none at all, or name the site in split.train_only "
        "or split.test_only where it is too small for both"
    ),
}
