"""Activation checkpointing: what lies within a network's blocks is computed again in the backward pass, not kept."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

M = TypeVar("M", bound=nn.Module)
LISTS = (nn.Sequential, nn.ModuleList)


def recomputed(network: M) -> M:
    """Returns the network, in place, whose blocks keep their inputs alone (Chen et al. 2016, arXiv:1604.06174).

    Its blocks are the members with layers of their own of its lists of modules: residual blocks, layers of attention,
    convolutions with norm and activation. A member that has such a list itself (a level of a U-Net) is no block, since
    all that is in it would be there at once. Parameters, their names and all numbers stay what they are.
    """
    for block in set(_blocks(network)):  # some lie in several lists
        block.__class__ = _of(type(block))  # type: ignore[arg-type]  # a class is hashable
    return network


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    for part in network.children():
        member = isinstance(network, LISTS) and any(True for _ in part.children())
        if member and not any(isinstance(inner, nn.ModuleList) for inner in part.modules()):
            yield part
        else:
            yield from _blocks(part)


@cache
def _of(kind: type[nn.Module]) -> type[nn.Module]:
    """Returns the class whose `forward` keeps no activations in training: of a class copies know, of a hook not."""

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if self.training and torch.is_grad_enabled():
            return checkpoint(kind.forward, self, *args, use_reentrant=False, **kwargs)
        return kind.forward(self, *args, **kwargs)

    return type(kind.__name__, (kind,), {"forward": forward})
