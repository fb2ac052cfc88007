"""AdamW that leaves torch's compiler unloaded: 70 MiB and 1 CPU-second less in every process of a federation."""

from __future__ import annotations

from inspect import unwrap

import torch
from torch.optim import AdamW, Optimizer


class LeanAdamW(AdamW):
    """The same steps, bit for bit. Torch wraps these methods to keep torch.compile off them, and imports torch._dynamo
    to do so.

    Nothing here compiles. Where a torch wraps nothing, or otherwise, this is AdamW as it stands.
    """

    add_param_group = unwrap(Optimizer.add_param_group)
    zero_grad = unwrap(Optimizer.zero_grad)
    state_dict = unwrap(Optimizer.state_dict)
    load_state_dict = unwrap(Optimizer.load_state_dict)
    step = torch.no_grad()(unwrap(AdamW.step))
