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
SCALE = 2.0**56  # scale of the encoding; the error of encryption in a sum is about 1e-14


class EncryptionError(UserError):
    """A missing key, TenSEAL not installed, or a sum that must not be decrypted."""


class CKKS:
    """CKKS (Cheon et al. 2017, "Homomorphic Encryption for Arithmetic of Approximate Numbers"), with TenSEAL.

    The keys are those that FLARE provisions: every site has the secret key, the server does not. A site sends its whole
    difference times its weight as one encrypted vector, the server adds the vectors, and a site decrypts the sum. A
    decrypted sum reveals something about the key to anyone who has its ciphertext (Li & Micciancio 2021, eprint
    2020/1533), so Gaussian noise of standard deviation `flood` is added, 1e9 times the error of encryption, as they
    advise. Raises EncryptionError if `flood` is not in [1e-9, 1).
    """

    def __init__(self, flood: float = 1e-5):
        self.flood = flood
        if not 1e-9 <= flood < 1:
            raise EncryptionError(
                "flood hides what an opened sum says of the key, in units of weight x difference: 1e-5 for one, not"
                f" {flood}"
            )

    def encrypt(self, arrays: Arrays, weight: float, secret: bytes) -> bytes:
        """Encrypt all numbers of the arrays, in the order of their names, times the weight."""
        ts = library()
        with quiet():
            return bytes(ts.ckks_vector(key(secret), (weight * flat(arrays)).tolist(), SCALE).serialize())

    def length(self, encrypted: bytes, public: bytes) -> int:
        """Returns of how many numbers an encrypted vector is.

        TenSEAL raises ValueError, RuntimeError or TypeError for other bytes.
        """
        ts = library()
        with quiet():
            return int(ts.ckks_vector_from(key(public), encrypted).size())

    def add(self, encrypted: list[bytes], public: bytes) -> bytes:
        """Returns the encrypted sum of encrypted vectors, computed without decrypting them."""
        ts, context = library(), key(public)
        with quiet():
            total = ts.ckks_vector_from(context, encrypted[0])
            for one in encrypted[1:]:
                total += ts.ckks_vector_from(context, one)
            return bytes(total.serialize())

    def open(self, total: bytes, secret: bytes) -> np.ndarray:
        """Decrypt a sum, (n,) float64, and add noise of `flood` from the operating system's randomness."""
        with quiet():
            found = np.asarray(library().ckks_vector_from(key(secret), total).decrypt(), np.float64)
        return found + self.flood * np.random.default_rng().standard_normal(len(found))

    def shaped(self, numbers: np.ndarray, shapes: dict[str, tuple[int, ...]]) -> Arrays:
        """Split a decrypted vector into float32 arrays of the given shapes, in the order of their names.

        Raises EncryptionError if the number of values does not match.
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
    """Concatenate all arrays, in the order of their names, as (n,) float64."""
    return np.concatenate([np.ravel(arrays[name]).astype(np.float64) for name in sorted(arrays)])


def make() -> tuple[bytes, bytes]:
    """Returns secret and public context like FLARE's HEBuilder; for the simulator, which does no provisioning."""
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
    """Returns the module tenseal. Raises EncryptionError if it is not installed."""
    try:
        import tenseal
    except ImportError as error:
        raise EncryptionError(
            "encryption needs TenSEAL at the server and at every site: pip install 'fedsynth[he]'"
        ) from error
    return tenseal


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress TenSEAL's warning about products of vectors of several ciphertexts; no products are computed here."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
