"""Masks: which voxels of a label file or a picture are marked.

Label files hold integers. Pictures of masks come in many kinds; what is doubtful is refused or told with its numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from fedsynth.data.manifest import SetError
from fedsynth.data.planes import INDEX, Planes

Values = int | list[int]
NEAR = 0.01  # from an integer, within which a label value is that integer (resampling, scl_slope)
BETWEEN = 0.1  # of a picture's range from either end, from where a value is neither marked nor not
MOST_BETWEEN = 0.1  # share of such values above which a picture is no mask
BORDER = 0.9  # share of the border that is marked, from where on a mask may be inverted
FEW = 16  # distinct values of a picture that may be labels
WHITE = 255.0  # of a picture of 8 bits
FAINT = 64.0  # below which compression may have left what a black picture shows


@dataclass
class Mask:
    """`labels` (*S) int: 0 where nothing is marked. `warnings`: what was seen, in words with numbers."""

    labels: np.ndarray
    warnings: list[str] = field(default_factory=list)


def integers(values: np.ndarray, file: str) -> np.ndarray:
    """Label values as integers. Raises SetError naming the file where one is .01 or more from any, or not finite."""
    with np.errstate(invalid="ignore"):  # of NaN and Inf, which are refused below
        exact = values.astype(np.int32)
        if (exact == values).all():  # as a rule, and five times as fast
            return exact
        whole = np.round(values)
        off = ~(np.abs(values - whole) <= NEAR)
    if off.any():
        worst = values[off].flat[0]
        raise SetError(
            f"{file} holds the label value {worst:g}{f' and {off.sum() - 1} more' if off.sum() > 1 else ''}, which is"
            f" no integer (within {NEAR}); resample label files by the nearest neighbour"
        )
    return whole.astype(np.int32)


def plain(planes: Planes, file: str) -> Planes:
    """Planes of a label file of a format that says what each value means: no picture of a mask, so that nothing is
    guessed of its background. Gray or palette; a colour picture with equal planes is gray. Raises SetError for others.
    """
    values = planes.values
    if len(values) in (2, 4) and np.ptp(values[-1]) == 0:
        values = values[:-1]  # opaque
    if planes.lossy or (len(values) > 1 and (values != values[:1]).any()):
        what = "lossy" if planes.lossy else f"in {len(values)} colours"
        raise SetError(f"{file} is {what}; save label files as gray or palette PNG, with a value for each label")
    return replace(planes, values=values[:1], range=None)


def read(planes: Planes, file: str) -> Mask:
    """Labels of a mask's file. Raises SetError naming the file where they are not clear."""
    if planes.range is None and not planes.lossy:
        return _labels(planes, file)
    return _picture(planes, file)


def selected(labels: np.ndarray, wanted: Values | None) -> np.ndarray:
    """Where labels are one of the values; where they are above 0, if none are named."""
    return labels > 0 if wanted is None else np.isin(labels, wanted)


def counts(labels: np.ndarray) -> dict[int, int]:
    """How many voxels have each value of labels (*S) int."""
    some = labels[labels != 0]  # few, as a rule, and sorting takes long
    found = dict(zip(*(a.tolist() for a in np.unique(some, return_counts=True)), strict=True))
    return ({0: labels.size - some.size} if some.size < labels.size else {}) | found


def _labels(planes: Planes, file: str) -> Mask:
    values = planes.values
    if len(values) > 1:
        raise SetError(f"{file} has {len(values)} planes; a mask has one")
    labels = integers(values[0], file)
    border, area = _border(labels), float((labels > 0).mean())
    if (border > 0).mean() < BORDER or area < 0.5:
        return Mask(labels)
    told = f"{file} marks {(border > 0).mean():.0%} of its border and {area:.0%} of its volume; is it inverted?"
    return Mask(labels, [told])


def _picture(planes: Planes, file: str) -> Mask:
    values, alpha = _without_alpha(planes.values, file) if len(planes.values) in (2, 4) else (planes.values, [])
    flat = values.max(0)  # a colour is marked where any of its planes is
    labels, told = (integers(flat, file), []) if planes.names == INDEX else _few(flat, planes.lossy, file)
    labels, inverted = _upright(labels, file)
    return Mask(labels, [*alpha, *told, *inverted])


def _without_alpha(values: np.ndarray, file: str) -> tuple[np.ndarray, list[str]]:
    """Planes without the last one, transparency; or that alone, where the others are constant and it is not."""
    colour, alpha = values[:-1], values[-1:]
    if np.ptp(colour, axis=(1, 2)).max() > 0 or np.ptp(alpha) == 0:
        return colour, []
    return alpha, [f"{file} marks by its transparency alone"]


def _few(flat: np.ndarray, lossy: bool, file: str) -> tuple[np.ndarray, list[str]]:
    """A plane as labels: its own values where they are few, else 1 above the middle of its range."""
    found = np.unique(flat)
    low, high = float(found[0]), float(found[-1])
    if not lossy and len(found) <= FEW:
        some = len(found) > 2 and high == WHITE  # labels, or the soft edges of one
        told = [f"{file} has the values {', '.join(f'{v:g}' for v in found)}; each above 0 is a label"] * some
        return integers(flat, file), told
    if high <= WHITE / 2:
        if lossy and high < FAINT:  # a black picture with what compression leaves of it
            told = [f"{file} holds values up to {high:g}; nothing is marked"]
            return np.zeros(flat.shape, np.int32), told * (high > 0)
        raise SetError(
            f"{file} is no mask: nothing is white in it, and it has {len(found)} values from {low:g} to {high:g}; save"
            " labels as PNG with a palette, 16-bit PNG or NIfTI"
        )
    if lossy and low > WHITE / 2:
        return np.ones(flat.shape, np.int32), []
    edge = BETWEEN * (high - low)
    between = float(((flat > low + edge) & (flat < high - edge)).mean())
    if between > MOST_BETWEEN:
        raise SetError(
            f"{file} is no mask: {between:.0%} of its values lie between {low:g} and {high:g}, {len(found)} different"
            " ones; save masks as PNG with a value for each label"
        )
    marked = flat > (low + high) / 2
    return marked.astype(np.int32), [
        f"{file} has {len(found)} values ({between:.1%} between the ends {low:g} and {high:g}); marked is what lies"
        f" above {(low + high) / 2:g}"
    ]


def _upright(labels: np.ndarray, file: str) -> tuple[np.ndarray, list[str]]:
    """Labels with the background 0. Raises SetError where everything is marked."""
    border = _border(labels)
    share, area = float((border > 0).mean()), float((labels > 0).mean())
    if share < BORDER or area < 0.5:
        return labels, []
    if len(np.unique(labels)) == 1:
        raise SetError(f"{file} marks every pixel; is it a mask?")
    told = f"{file} marks {share:.0%} of its border and {area:.0%} of its area"
    if share < 1:  # a lesion that fills the picture leaves corners; a background leaves none
        return labels, [f"{told}; is it inverted?"]
    ground = int(border[0])
    if len(np.unique(labels)) > 2 or (border != ground).any():
        raise SetError(f"{told}; give its background the value 0")
    return (labels != ground).astype(np.int32), [
        f"{file} has a background of {ground} ({share:.0%} of the border, {area:.0%} of the area are marked); it is"
        " taken for inverted"
    ]


def _border(labels: np.ndarray) -> np.ndarray:
    """The values on the outermost voxels of every axis longer than one."""
    inner = np.zeros(labels.shape, bool)
    inner[tuple(slice(1, -1) if n > 2 else slice(None) for n in labels.shape)] = True
    return labels[~inner] if not inner.all() else labels.ravel()
