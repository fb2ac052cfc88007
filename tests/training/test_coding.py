"""Both ways of a coded exchange: what arrives, what is made up for, and who must have what."""

from __future__ import annotations

import numpy as np
import pytest

from fedsynth.compression import CodingError
from fedsynth.compression.quantize import Quantize
from fedsynth.compression.topk import TopK
from fedsynth.training.coding import WHOLE, Downlink, Received, Uplink, decode, encode


def arrays(seed: int = 0, scale: float = 1.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "u.weight": (scale * rng.normal(size=(20, 30))).astype(np.float32),
        "control:b": (scale * rng.normal(size=5)).astype(np.float32),
    }


def shapes(of: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: a.shape for name, a in of.items()}


def off(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(np.square(a[n] - b[n]).sum() for n in a)))


def test_names_and_shapes_come_back_in_whatever_order_the_arrays_were():
    of = arrays()
    found = decode(WHOLE, encode(WHOLE, dict(reversed(of.items()))), shapes(of))
    assert shapes(found) == shapes(of)
    assert off(found, of) < 1e-3 * off(of, {n: 0 * a for n, a in of.items()})


def test_the_last_message_up_is_whole_and_brings_what_earlier_ones_left_out():
    link, total, arrived = Uplink(Quantize(1)), arrays(9, 0.0), arrays(9, 0.0)
    for number in range(4):
        difference = arrays(number)
        coded, by = link.encode(difference, last=number == 3)
        part = decode(by, coded, shapes(difference))
        total, arrived = ({n: of[n] + more[n] for n in of} for of, more in ((total, difference), (arrived, part)))
    assert by is WHOLE
    assert off(total, arrived) < 0.01


@pytest.mark.parametrize("by", [Quantize(1), Quantize(4), TopK(1 / 16)])
def test_site_and_server_agree_to_the_bit_on_what_the_site_has_and_it_follows_the_parameters(by):
    server, site, current = Downlink(by), Received(by), arrays(scale=10.0)
    for number in range(12):
        message, about = server.encode(current, number, follows=number > 0)
        have = site.decode(message, number, about)
        assert all((have[n] == server.have[n]).all() for n in have)
        assert ("since" in about) == (number > 0)
        current = {n: a + 0.01 * arrays(number)[n] for n, a in current.items()}
    behind = off(server.have, current)
    for more in range(12, 90):  # nothing moves any more: what was left out arrives
        message, about = server.encode(current, more, follows=True)
        site.decode(message, more, about)
    assert off(site.have, current) < 0.05 * behind


def test_a_site_that_may_not_have_the_message_before_gets_the_parameters_whole():
    server, late, current = Downlink(Quantize(2)), Received(Quantize(2)), arrays()
    server.encode(current, 0, follows=False)
    message, about = server.encode(current, 1, follows=True)
    with pytest.raises(CodingError, match="a change since round 0, this site has that of None"):
        late.decode(message, 1, about)
    message, about = server.encode(current, 2, follows=False)
    assert off(late.decode(message, 2, about), current) < 0.01
    message, about = server.encode(current, 3, follows=True)
    late.decode(message, 3, about)


def test_other_parameters_than_the_round_before_travel_whole():
    server, site, current = Downlink(Quantize(2)), Received(Quantize(2)), arrays()
    for number, of in enumerate([{"u.weight": current["u.weight"]}, current]):
        message, about = server.encode(of, number, follows=number > 0)
        assert off(site.decode(message, number, about), of) < 0.01
