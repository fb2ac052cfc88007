"""FLARE executor for jobs that carry no code: runs the client of the installed package."""

from __future__ import annotations

from pathlib import Path

from nvflare.app_common.executors.client_api_executor import ClientAPIExecutor, ExecutionMode
from nvflare.client.config import ExchangeFormat, TransferType

EXCHANGE = "nvflare_jobs.exchange.client.Exchange"  # the class that answers the centre's calls at a site
KINDS = ("validate", "train", "reference", "score")


class Installed(ClientAPIExecutor):
    """Runs `nvflare_jobs/<kind>/client.py` of the installed package.

    A site that allows only this class can refuse all code in jobs.
    """

    def __init__(self, kind: str):
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
        super().__init__(
            execution_mode=ExecutionMode.IN_PROCESS,
            task_script_path=str(Path(__file__).parents[1] / kind / "client.py"),
            params_exchange_format=ExchangeFormat.NUMPY,
            server_expected_format=ExchangeFormat.NUMPY,
            params_transfer_type=TransferType.FULL,
        )
        self.kind = kind
