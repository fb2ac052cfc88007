"""WHICH version is in use: a registered model becomes `champion` when its gates hold and a person has approved it.

Usage: `fedsynth promote MODEL`. The result of a version's gates is in its tags since it was scored
(fedsynth/registry/promotion.py). `promote.approvers` of params.yaml names who may decide: on a promotion, a rollback,
and whether a version is stale. The name is what was typed: Prefect's own server does not check who it is, so whoever
can reach the server can approve in the name of another.
"""

# ruff: noqa: E402  Prefect reads the environment when it is imported

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from fedsynth.processes import in_utf8
from fedsynth.settings import Settings, masked, quiet

quiet()
if __name__ == "__main__":
    in_utf8()
    # The terminal shows our own lines, Prefect's go to its server. Set before the import, which reads it.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.exceptions import FlowPauseTimeout, NotPausedError, ObjectNotFound
from prefect.flow_runs import pause_flow_run, resume_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Completed, State
from pydantic import Field, create_model

from fedsynth import params as configuration
from fedsynth.errors import UserError
from fedsynth.params import names
from fedsynth.registry import aliases, by_hand, loading, promotion, stale, versions
from fedsynth.worth.judgement import required
from flows import candidate

DAY_S = 24 * 60 * 60
# OVER ends the server's own message, which replaces ours in a run whose time is over; it identifies such a run.
OVER, UNANSWERED = (
    "never resumed.",
    "nobody approved {} within {} s; nothing was promoted; run the flow again to ask again",
)
NOTHING_REQUIRED = (
    "{} must not be promoted: nothing is required of it, so nothing has been proven; write a `gates.require` into"
    " params.yaml and run the pipeline (`fedsynth run`), which judges it anew; to promote it nevertheless say why:"
    " --although TEXT"
)
DECIDES = "who decides; one of promote.approvers where params.yaml names some"

# on Prefect 3.8.8's page a click beside them opens the list and closes it at once
LIST = "The arrows at the right open the list"


class PromotionError(UserError):
    """A promotion cannot be decided; the message says how to proceed."""


class Decision(RunInput):
    """The form that the person who resumes the flow run fills in, with the labels that Prefect's page shows."""

    # Chosen from two words, without a default, because resuming is not approving. Of a yes-or-no field Prefect's page
    # makes a switch, and sends "no" for one that nobody has touched.
    decision: Literal["promote", "refuse"] = Field(
        description=f"promote: it becomes the version in use; refuse: nothing changes. Both end this run. {LIST}"
    )
    who: str = Field(min_length=1, title="Your name")
    why: str = Field(min_length=1, title="Reason", description="what you looked at, and why that is enough or not")

    @property
    def approved(self) -> bool:
        return self.decision == "promote"


@flow(name="promote", log_prints=False)
def promote(
    model: str,
    version: int | None = None,
    approve: str | None = None,
    why: str = "",
    wait_s: int = DAY_S,
    although: str = "",
) -> State:
    """Make a version of `<study>-<model>` (default: the newest) the champion, once a person has approved it.

    The person approves by resuming this run, with name and reason. `approve` names who is responsible for promoting
    without a question, for a policy; `why` is the reason. `although` is the reason for promoting a version that is not
    better than the champion on the same references, of which nothing is required, that is stale (a hospital has
    withdrawn data of it) or has no hashes; a required gate that does not hold and an artifact that was changed cannot
    be overridden. A version that is already the champion stays the champion, unless somebody has made it that by hand.

    Raises RegistryError where the version does not exist, promotion.Refused where it may not be promoted, Swapped where
    its artifact is not what was registered, and PromotionError where nobody answered within `wait_s` seconds, or one
    who is not among `promote.approvers`.
    """
    root, although = Settings.read().root, " ".join(although.split())
    asked_for = versions.version_of(root, model, version)
    number, title = int(asked_for.version), f"{asked_for.name} version {asked_for.version}"
    champion = in_use(root, model, number)
    if champion == str(number):
        return Completed(name="Unchanged", message=f"{title} is the {aliases.CHAMPION} already")
    if approve:  # before anything else is looked at
        may_decide(root, approve)
    if said := by_hand.changed(root, model):
        get_run_logger().warning(said)
        print(said, flush=True)
    stale.mark(root)
    facts = create_markdown_artifact(
        candidate.describe(root, model, number, champion, although),
        key=f"promotion-{model}".lower().replace("_", "-"),
        description=f"what is known of {title}",
    )
    asked = candidate.question(root, model, number, champion, although, f"/artifacts/artifact/{facts}")
    allowed(root, model, number, although)
    with loading.admitted(root, asked_for, although):  # before a person is asked; promoting looks again
        pass
    decision = Decision(who=approve, why=why, decision="promote") if approve else ask(root, title, asked, wait_s)
    may_decide(root, decision.who)
    if not decision.approved:
        return Cancelled(message=f"{title} was refused by {decision.who}: {decision.why}")
    # after up to a day the version may have been judged anew, or there may be another champion
    compared = allowed(root, model, number, although)
    former = aliases.promote(root, model, number, decision.who, decision.why, str(flow_run.id), compared, although)
    return Completed(
        message=f"{title} is the {aliases.CHAMPION}" + (f", in place of version {former}" if former else "")
    )


def in_use(root: Path, model: str, number: int) -> str | None:
    """Return the version that is the champion; where somebody has made `number` that by hand, the one before it."""
    champion = versions.alias_of(root, model, aliases.CHAMPION)
    if champion == str(number):
        return by_hand.recorded(root, versions.registered_name(root, model), aliases.CHAMPION)
    return champion


def may_decide(root: Path, who: str) -> None:
    """Raise PromotionError where params.yaml names who decides which version is in use, and it is somebody else."""
    known = configuration.centre(root).promote.approvers
    if known and names.normal(" ".join(who.split())) not in known:
        raise PromotionError(
            f"{who} may not decide which version is in use: promote.approvers of params.yaml names {', '.join(known)}"
        )


def allowed(root: Path, model: str, number: int, although: str) -> str:
    """Return how a version compares with the current champion, "" where there is none.

    Raises promotion.Refused where the version may not be promoted.
    """
    version, champion = versions.version_of(root, model, number), in_use(root, model, number)
    title = f"{version.name} version {number}"
    promotion.check_gates(title, version.tags)
    if not required(promotion.gates(version.tags)) and not although:
        raise promotion.Refused(NOTHING_REQUIRED.format(title))
    better, compared = candidate.comparison(root, model, number, champion)
    if not better and not although:
        raise promotion.Refused(f"{compared}; to promote it nevertheless say why: --although TEXT")
    return compared


def form(approvers: list[str]) -> type[Decision]:
    """Return the form that asks for a decision; where approvers are named, one of them is chosen."""
    if not approvers:
        return Decision
    who = Field(min_length=1, title="Your name", description=LIST, json_schema_extra={"enum": list[Any](approvers)})
    return create_model("Decision", __base__=Decision, who=(str, who))


def ask(root: Path, title: str, question: str, wait_s: int) -> Decision:
    """Pause this run until a person resumes it with a decision.

    Raises PromotionError after `wait_s` seconds without one.
    """
    how = (
        f"{flow_run.ui_url or 'the run in the UI'}, or `fedsynth answer {flow_run.id} --by NAME --why TEXT [--refuse]`"
    )
    get_run_logger().info("%s waits for approval: %s", title, how)
    print(f"{title} waits for approval: {how}", flush=True)
    asked = form(configuration.centre(root).promote.approvers).with_initial_data(description=question)
    try:
        return pause_flow_run(wait_for_input=asked, timeout=wait_s, poll_interval=min(5, max(1, wait_s // 4)))
    except FlowPauseTimeout as error:
        raise PromotionError(UNANSWERED.format(title, wait_s)) from error  # for the run's log; see OVER


def answer(run: UUID, decision: Decision) -> str:
    """Resume a waiting run with a decision.

    Raises PromotionError where it does not wait, or no longer does, or by whom it must not be decided.
    """
    if ((root := Settings.read().root) / "params.yaml").is_file():  # a typing error does not end the run
        may_decide(root, decision.who)
    try:
        resume_flow_run(run, run_input=decision.model_dump() | {"who": " ".join(decision.who.split())})
    except RuntimeError as error:  # the server has held the answer against the form
        raise PromotionError(f"the flow run {run} took no answer: {error}") from error
    except (NotPausedError, ObjectNotFound, FlowPauseTimeout) as error:
        raise PromotionError(
            f"the flow run {run} waits for no answer: it is unknown, has been answered, or its time is over"
        ) from error
    return f"{'approved' if decision.approved else 'refused'} by {decision.who}"


def _promote(words: list[str]) -> str:
    parser = argparse.ArgumentParser(
        prog="fedsynth promote",
        description=(promote.__doc__ or "").partition("\n")[0],
        epilog="also: `rollback MODEL`, `answer RUN`, `clear MODEL`, each with --help",
    )
    parser.add_argument("model", help="a key of models in params.yaml")
    parser.add_argument("--version", type=int, help="default: the newest")
    parser.add_argument("--approve", metavar="NAME", help="who answers for it: nobody is asked")
    parser.add_argument("--why", default="", help="with --approve: the reason")
    parser.add_argument(
        "--although",
        default="",
        metavar="TEXT",
        help="why, where it is no better than the champion, nothing is required, it is stale or has no hashes",
    )
    parser.add_argument(
        "--wait", type=int, default=DAY_S, metavar="SECONDS", help="for a person's approval; default: a day"
    )
    given = parser.parse_args(words)
    if given.approve and not given.why:
        parser.error("--approve needs --why")
    if not given.approve and not PREFECT_API_URL.value():
        raise PromotionError(
            "nobody could approve: there is no Prefect server; set PREFECT_API_URL, or give --approve NAME --why TEXT"
        )
    state = promote(given.model, given.version, given.approve, given.why, given.wait, given.although, return_state=True)
    if state.is_failed() and (state.message or "").endswith(OVER):
        raise PromotionError(UNANSWERED.format(versions.registered_name(Settings.read().root, given.model), given.wait))
    if state.is_failed() or state.is_crashed():
        state.result()  # raises what went wrong
    if state.is_cancelled():
        raise PromotionError(state.message or "the run was cancelled")
    return state.message or ""


def _rollback(words: list[str]) -> str:
    """Make the previous champion the champion again; the first champion is withdrawn.

    One person decides, with a reason, and nobody is waited for, because it may be urgent; who it is must be one of
    `promote.approvers` where params.yaml names some. Prefect is not used, because it may be what is broken. Gates are
    not checked, because a version that was in use must be available to replace one that should not be. That it is what
    was registered, and not stale, is.
    """
    parser = argparse.ArgumentParser(
        prog="fedsynth rollback",
        description="Make the previous champion the champion again; the first is withdrawn.",
    )
    parser.add_argument("model", help="a key of models in params.yaml")
    parser.add_argument("--by", required=True, metavar="NAME", help=DECIDES)
    parser.add_argument("--why", required=True, help="the reason")
    parser.add_argument("--although", default="", metavar="TEXT", help="why, where it is stale or has no hashes")
    given = parser.parse_args(words)
    root = Settings.read().root
    may_decide(root, given.by)
    left, back = aliases.rollback(root, given.model, given.by, given.why, "none, at the command line", given.although)
    name = versions.registered_name(root, given.model)
    if back is None:
        return f"{name} has no {aliases.CHAMPION} any more: version {left} was the first, and is withdrawn"
    return f"{name} version {back} is the {aliases.CHAMPION} again, in place of version {left}"


def _clear(words: list[str]) -> str:
    """Take the mark `stale` off a version: a person decides that, with a reason."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.promote clear", description="Say that a version is not stale, with the reason."
    )
    parser.add_argument("model", help="a key of models in params.yaml")
    parser.add_argument("--version", type=int, required=True)
    parser.add_argument("--by", required=True, metavar="NAME", help=DECIDES)
    parser.add_argument("--why", required=True, help="the reason")
    given = parser.parse_args(words)
    root = Settings.read().root
    may_decide(root, given.by)
    stale.clear(root, given.model, given.version, given.by, given.why)
    return f"{versions.registered_name(root, given.model)} version {given.version} is no longer stale, by {given.by}"


def _answer(words: list[str]) -> str:
    parser = argparse.ArgumentParser(
        prog="fedsynth answer", description="Approve or refuse, for a run that waits for it."
    )
    parser.add_argument("run", type=UUID, help="the flow run's id")
    parser.add_argument("--by", required=True, metavar="NAME", help=DECIDES)
    parser.add_argument("--why", required=True, help="the reason")
    parser.add_argument("--refuse", action="store_true", help="nothing is promoted")
    given = parser.parse_args(words)
    return answer(given.run, Decision(who=given.by, why=given.why, decision="refuse" if given.refuse else "promote"))


COMMANDS: dict[str, Callable[[list[str]], str]] = {"rollback": _rollback, "answer": _answer, "clear": _clear}


def main(words: list[str]) -> int:
    try:
        command = COMMANDS.get(words[0]) if words else None
        print(command(words[1:]) if command else _promote(words))
    except KeyboardInterrupt:
        print("interrupted; nothing was promoted", file=sys.stderr)
        return 130
    except Exception as error:
        print(masked(f"error: {error}"), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
