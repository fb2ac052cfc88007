"""Homomorphic encryption (CKKS) of updates: the server adds ciphertexts and learns only their sum."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsynth.errors import UserError

if TYPE_CHECKING:
    import tenseal

Arrays = dict[str, np.ndarray]
SCALE = 2.0**56  # of the encoded numbers: what encryption adds to a sum is near 1e-14


class EncryptionError(UserError):
    """No key, no TenSEAL, or a sum that may not be opened."""


class CKKS:
    """Cheon et al. 2017, "Homomorphic Encryption for Arithmetic of Approximate Numbers", through TenSEAL, with FLARE's
    provisioned keys.

    Every site holds the secret key, the server none. A site sends all of a difference, times its weight, as one
    encrypted vector; the server adds the vectors; a site opens the sum. An opened sum says something of the key to one
    who holds its ciphertext (Li & Micciancio 2021, eprint 2020/1533): it gets Gaussian noise of `flood`, 1e9 times what
    encryption has added, as they advise.
    """

    def __init__(self, flood: float = 1e-5):
        self.flood = flood
        if not 1e-9 <= flood < 1:
            raise EncryptionError(
                "flood hides what an opened sum says of the key, in units of weight x difference: 1e-5 for one, not"
                f" {flood}"
            )

    def encrypt(self, arrays: Arrays, weight: float, secret: bytes) -> bytes:
        """All numbers of the arrays, in the order of their names, times the weight."""
        ts = library()
        with quiet():
            return bytes(ts.ckks_vector(key(secret), (weight * flat(arrays)).tolist(), SCALE).serialize())

    def add(self, encrypted: list[bytes], public: bytes) -> bytes:
        """Their sum, without being able to read any of them."""
        ts, context = library(), key(public)
        with quiet():
            total = ts.ckks_vector_from(context, encrypted[0])
            for one in encrypted[1:]:
                total += ts.ckks_vector_from(context, one)
            return bytes(total.serialize())

    def open(self, total: bytes, secret: bytes) -> np.ndarray:
        """The sum, (n,) float64, with `flood` on it. The noise is of the operating system's randomness."""
        with quiet():
            found = np.asarray(library().ckks_vector_from(key(secret), total).decrypt(), np.float64)
        return found + self.flood * np.random.default_rng().standard_normal(len(found))

    def shaped(self, numbers: np.ndarray, shapes: dict[str, tuple[int, ...]]) -> Arrays:
        """The arrays of float32 that were encrypted as one vector. Raises EncryptionError where there are more or fewer
        numbers.
        """
        sizes = [int(np.prod(shapes[name])) for name in sorted(shapes)]
        if len(numbers) != sum(sizes):
            raise EncryptionError(f"the opened sum has {len(numbers)} numbers instead of {sum(sizes)}")
        parts = np.split(numbers, np.cumsum(sizes)[:-1])
        return {
            name: part.reshape(shapes[name]).astype(np.float32)
            for name, part in zip(sorted(shapes), parts, strict=True)
        }


def flat(arrays: Arrays) -> np.ndarray:
    """(n,) float64: all arrays one after the other, in the order of their names."""
    return np.concatenate([np.ravel(arrays[name]).astype(np.float64) for name in sorted(arrays)])


def make() -> tuple[bytes, bytes]:
    """Secret and public context as FLARE's HEBuilder makes them; for the simulator, where nobody provisions."""
    ts = library()
    made = ts.context(
        ts.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 40, 40], encryption_type=ts.ENCRYPTION_TYPE.SYMMETRIC
    )
    made.generate_relin_keys()
    made.global_scale = 2**40
    secret, public = (
        made.serialize(save_public_key=own, save_secret_key=own, save_galois_keys=False, save_relin_keys=True)
        for own in (True, False)
    )
    return bytes(secret), bytes(public)


def key(context: bytes) -> tenseal.Context:
    return library().context_from(context)


def library() -> Any:
    """TenSEAL. Raises EncryptionError where it is not installed."""
    try:
        import tenseal
    except ImportError as error:
        raise EncryptionError(
            "encryption needs TenSEAL at the server and at every site: pip install 'fedsynth[he]'"
        ) from error
    return tenseal


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """TenSEAL prints a warning for every vector of more than one ciphertext: about products, of which there are none
    here.
    """
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
