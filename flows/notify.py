"""WHO is notified when a run goes wrong: an automation of the Prefect server calls a webhook.

Usage: `python -m flows.notify URL`. There is no file for `prefect automation create`, because an automation names its
webhook by an id that each server creates anew. The message says what failed, why in words of a closed list, and whom it
concerns (flows/concerns.py), with a link. It has no error's own text: that may name a hospital's files, and the webhook
may be outside the hospital.
"""

# ruff: noqa: E402  Prefect reads the environment when it is imported

from __future__ import annotations

import argparse
import sys
from datetime import timedelta
from urllib.parse import urlsplit
from uuid import UUID

from fedsynth.processes import in_utf8
from fedsynth.settings import masked, quiet

quiet()
if __name__ == "__main__":
    in_utf8()

from prefect.automations import AutomationCore
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture, ResourceSpecification
from prefect.settings import PREFECT_API_URL

from fedsynth.errors import UserError
from flows.concerns import ENGINEER, MARK

BLOCK = "fedsynth-failures"
BAD, SILENT = "fedsynth: a run went wrong", "fedsynth: a run gave no sign of life"
# Late: the scheduled time has passed and no worker has taken the run. A run that was cancelled, by a person or by its
# concurrency limit, is not a failure.
STATES = ("Failed", "Crashed", "TimedOut", "Late")
ENDS = ("Completed", "Failed", "Crashed", "Cancelled", "TimedOut")
# a run sends a heartbeat every 180 s by default; a restart of the server must not make it Crashed
SILENCE_S = 600
# The format of Slack and Mattermost. A server that knows its own address (PREFECT_UI_URL) gives a link, any other the
# run's id.
# A state whose message begins with MARK is of our own words; any other's may have an error's text, and is not shown.
MESSAGE = """{"text": {{ ((flow_run.state.message if (flow_run.state.message or "").startswith("MARK")
 else "MARKthe run " ~ flow_run.name ~ " of " ~ flow.name ~ " is " ~ flow_run.state.name ~ "; concerns: ENGINEER")
 ~ ": " ~ ((flow_run|ui_url) or flow_run.id)) | tojson }} }""".replace("MARK", MARK).replace("ENGINEER", ENGINEER)


class NotifyError(UserError):
    """The automation cannot be created as requested; the message says why."""


def bad(block_id: UUID, tag: str) -> AutomationCore:
    """Return the automation that calls the webhook for a run with this tag, once for each of STATES that it enters."""
    return AutomationCore(
        name=BAD,
        description="calls a webhook; made by flows/notify.py",
        trigger=EventTrigger(
            expect={f"prefect.flow-run.{state}" for state in STATES},
            match=RUNS,
            match_related=tagged(tag),
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[CallWebhook(block_document_id=block_id, payload=MESSAGE)],
    )


def silent(tag: str, silence_s: float) -> AutomationCore:
    """Return the automation that makes a run Crashed after `silence_s` seconds without a heartbeat.

    A flow run whose machine died cannot report it. The state Crashed then triggers `bad`.
    """
    beat = "prefect.flow-run.heartbeat"
    return AutomationCore(
        name=SILENT,
        description="makes a run Crashed that has stopped to give heartbeats; made by flows/notify.py",
        trigger=EventTrigger(
            after={beat},
            expect={beat, *(f"prefect.flow-run.{state}" for state in ENDS)},
            match=RUNS,
            match_related=tagged(tag),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=silence_s),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=f"no sign of life for {silence_s:.0f} s")],
    )


RUNS = ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"})


def tagged(tag: str) -> ResourceSpecification:
    return ResourceSpecification({"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"})


def install(url: str, tag: str = "fedsynth", silence_s: float = SILENCE_S) -> list[str]:
    """Create or update webhook and automations on the server of PREFECT_API_URL. Returns the automations' names.

    Raises NotifyError where `url` is not a web address or PREFECT_API_URL is not set: an automation on a server that
    ends with the command would do nothing.
    """
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise NotifyError("the webhook's address must begin with http:// or https:// and name a host")
    if not PREFECT_API_URL.value():
        raise NotifyError("set PREFECT_API_URL to the server whose runs are meant")
    hook = Webhook(url=url, headers={"Content-Type": "application/json"})
    made = [bad(hook.save(BLOCK, overwrite=True), tag), silent(tag, silence_s)]
    with get_client(sync_client=True) as client:
        for automation in made:
            known = client.read_automations_by_name(automation.name)
            if known:
                client.update_automation(known[0].id, automation)
            else:
                client.create_automation(automation)
    return [automation.name for automation in made]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m flows.notify", description="Call a webhook when a run of a deployment goes wrong."
    )
    parser.add_argument(
        "url", help="of the webhook; - reads it from the standard input, where no list of processes shows it"
    )
    given = parser.parse_args()
    try:
        names = install(sys.stdin.readline().strip() if given.url == "-" else given.url)
    except Exception as error:
        print(masked(f"error: {error}"), file=sys.stderr)
        return 1
    print("\n".join(names))
    return 0


if __name__ == "__main__":
    sys.exit(main())
