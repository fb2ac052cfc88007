"""The hospital's policy: what may be asked of it, held against every job before an image is read."""

from fedsynth.hospital.policy.gate import Gate
from fedsynth.hospital.policy.model import FILE, NoPolicy, Paused, Policy, PolicyError, load, paused
from fedsynth.hospital.policy.question import Question

__all__ = ["FILE", "Gate", "NoPolicy", "Paused", "Policy", "PolicyError", "Question", "load", "paused"]
