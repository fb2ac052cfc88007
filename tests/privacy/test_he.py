"""What the server adds it cannot read, and what comes out is the sum."""

import math

import numpy as np
import pytest

pytest.importorskip("tenseal", reason="encryption needs the extra `he`: pip install -e '.[he]'")

from fedsynth.privacy import he
from fedsynth.privacy.he import CKKS, EncryptionError

KEYS = he.make()
SECRET, PUBLIC = KEYS


def arrays(seed, n=5000):
    rng = np.random.default_rng(seed)
    return {"b": rng.normal(size=(n // 10, 10)).astype(np.float32), "a": 1e-3 * rng.normal(size=7).astype(np.float32)}


def shapes(of):
    return {name: a.shape for name, a in of.items()}


def test_what_is_opened_is_the_weighted_sum_of_what_was_encrypted():
    cipher, sent = CKKS(), [(40.0, arrays(0)), (7.0, arrays(1)), (130.0, arrays(2))]
    total = cipher.add([cipher.encrypt(of, weight, SECRET) for weight, of in sent], PUBLIC)
    found = cipher.shaped(cipher.open(total, SECRET), shapes(sent[0][1]))
    for name in found:
        expected = sum(weight * of[name].astype(np.float64) for weight, of in sent)
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=8 * cipher.flood)
        assert found[name].dtype == np.float32


def test_the_server_opens_neither_an_update_nor_the_sum():
    cipher = CKKS()
    one = cipher.encrypt(arrays(0), 1.0, SECRET)
    for closed in (one, cipher.add([one, one], PUBLIC)):
        with pytest.raises(ValueError, match="secret_key"):
            cipher.open(closed, PUBLIC)
    with pytest.raises(ValueError, match="encrypt"):  # nor makes one: its context holds no key at all
        cipher.encrypt(arrays(0), 1.0, PUBLIC)


def test_another_consortium_reads_noise():
    cipher, of = CKKS(), arrays(0)
    found = cipher.open(cipher.encrypt(of, 1.0, SECRET), he.make()[0])
    assert abs(np.corrcoef(found, he.flat(of))[0, 1]) < 0.1


def test_the_same_update_is_never_the_same_twice():
    assert CKKS().encrypt(arrays(0), 1.0, SECRET) != CKKS().encrypt(arrays(0), 1.0, SECRET)


@pytest.mark.parametrize("flood", [1e-5, 1e-2])
def test_an_opened_sum_has_noise_that_hides_what_encryption_has_left_in_it(flood):
    of = arrays(0)
    found = CKKS(flood).open(CKKS(flood).encrypt(of, 1.0, SECRET), SECRET)
    assert (found - he.flat(of)).std() == pytest.approx(flood, rel=0.05)
    bare = CKKS(1e-9).open(CKKS().encrypt(of, 1.0, SECRET), SECRET) - he.flat(of)
    assert bare.std() < 2e-9  # nearly all of which is the flood of 1e-9: encryption itself adds far less


def test_arrays_come_back_from_the_one_vector_by_their_names_and_shapes():
    of = {"z": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array([7.0], np.float32)}
    back = CKKS().shaped(he.flat(of), shapes(of))
    assert all((back[name] == of[name]).all() and back[name].shape == of[name].shape for name in of)
    with pytest.raises(EncryptionError, match="6 numbers instead of 7"):
        CKKS().shaped(np.zeros(6), shapes(of))


@pytest.mark.parametrize("flood", [0, -1, math.nan, 2.0])
def test_opened_sums_without_noise_are_refused(flood):
    with pytest.raises(EncryptionError, match="flood"):
        CKKS(flood)
