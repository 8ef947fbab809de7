"""One run of the checklist against one server.

- First the good request, twice. If it is refused there is nothing to compare a refusal with, and nothing is
  reported but that.
- Last the good request again: a server that refuses it by then (a token spent, a client locked out, a limit
  reached) may have refused everything for that reason, so the report says that it does not count.
- Each case by itself, and one request at a time where a case does not say otherwise: nothing depends on what
  another case found.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from authz.conformance.case import Case, Verdict, nothing, skipped, withheld
from authz.conformance.client import check_url
from authz.conformance.message import Answer, Request
from authz.conformance.port import Server
from authz.conformance.report import Report, Result
from authz.conformance.sender import RunError, Sender
from authz.conformance.situation import Inputs, Profile, Situation
from authz.errors import ConfigError

_WELL_KNOWN: Final = "/.well-known/oauth-authorization-server"
# What it revokes may stand behind every other token.
_AFTER_ALL: Final = "CA-07/revoke"

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What shall be examined; `metadata_url` is None where the server's documents are not asked for."""

    inputs: Inputs
    profile: Profile
    cases: Sequence[Case]
    metadata_url: str | None = None


async def run(plan: Plan, server: Server, clock: Callable[[], float], progress: Progress) -> Report:
    """Run the cases and return what was found.

    Raises:
        RunError: if the good request is refused.
        ConfigError: if a URL is one that nothing is sent to.
    """
    sender = Sender(server, clock, lambda: secrets.token_urlsafe(24))
    situation = await _begin(plan, sender, clock)
    cases = sorted(plan.cases, key=lambda case: case.id == _AFTER_ALL)
    results, problem = [], None
    for number, case in enumerate(cases):
        if case.id == _AFTER_ALL:
            problem = await _again(plan.inputs, sender)
        progress(number, len(cases), case.id)
        results.append(Result.of(case, await _verdict(case, situation, sender), plan.profile))
    if all(case.id != _AFTER_ALL for case in cases):
        problem = await _again(plan.inputs, sender)
    return Report(plan.inputs.token_endpoint, plan.profile, tuple(results), problem)


async def _begin(plan: Plan, server: Sender, clock: Callable[[], float]) -> Situation:
    inputs, metadata, key_set = plan.inputs, None, None
    check_url(inputs.token_endpoint)
    if inputs.protected_resource is not None:
        check_url(inputs.protected_resource)
    if plan.metadata_url is not None:
        metadata = await server.get(plan.metadata_url)
        jwks_uri = metadata.members.get("jwks_uri")
        if isinstance(jwks_uri, str) and _may_fetch(jwks_uri, inputs.token_endpoint):
            key_set = await server.get(jwks_uri)
    first = await _good(inputs, server, "the good request was refused")
    now = int(clock())
    again = await _good(inputs, server, "the good request was granted once, and refused the second time")
    return Situation(inputs, plan.profile, now, (first, again), metadata, key_set)


async def _good(inputs: Inputs, server: Sender, sentence: str) -> Answer:
    answer = await server.send(inputs.token_endpoint, inputs.good)
    if answer.unverified_token is None:
        why = answer.detail or _description(answer, inputs)
        raise RunError(f"{sentence}: {answer.got}{f': {why}' if why else ''}")
    return answer


async def _again(inputs: Inputs, server: Sender) -> str | None:
    answer = await server.send(inputs.token_endpoint, inputs.good)
    if answer.unverified_token is not None:
        return None
    return f"the good request is refused by now ({answer.got}), so other refusals may say nothing"


async def _verdict(case: Case, situation: Situation, sender: Sender) -> Verdict:
    lack = case.lacks(situation)
    if lack is not None:
        return skipped(f"needs {lack}")
    requests = case.send(situation)
    if not requests and case.send is not nothing:
        return skipped("nothing of this kind can be sent")
    answers = await _answers(requests, situation, sender)
    if case.follow is not None and not isinstance(answers, Verdict):
        more = case.follow(situation, answers)
        further = await _answers(more, situation, sender, at_once=case.at_once)
        answers = further if isinstance(further, Verdict) else [*answers, *further]
    if isinstance(answers, Verdict):
        return answers
    return withheld(case.judge(situation, answers), situation, answers)


async def _answers(
    requests: Sequence[Request], situation: Situation, sender: Sender, *, at_once: bool = False
) -> list[Answer] | Verdict:
    """Return the answers, or the verdict that they cannot be had."""
    urls = {request.endpoint: situation.endpoint(request.endpoint) for request in requests}
    absent = [name for name, url in urls.items() if url is None]
    if absent:
        return skipped(f"there is no {absent[0]} endpoint")
    if at_once:
        return await sender.send_all(lambda request: urls[request.endpoint] or "", requests)
    return [await sender.send(urls[request.endpoint] or "", request) for request in requests]


def _may_fetch(url: str, token_endpoint: str) -> bool:
    """Tell whether to fetch what a server names: never from this machine, unless it is here itself."""
    try:
        check_url(url)
    except ConfigError:
        return False
    return urlsplit(url).scheme == "https" or urlsplit(token_endpoint).scheme == "http"


def _description(answer: Answer, inputs: Inputs) -> str:
    """Return what the server says about its refusal, quoted, if it repeats nothing that was sent."""
    text = answer.members.get("error_description")
    sent = [value for _, value in inputs.good.form if len(value) > 40]
    if not isinstance(text, str) or any(value in text for value in sent):
        return ""
    return ascii(text[:200])


def metadata_url(issuer: str) -> str:
    """Return where an issuer publishes its metadata (RFC 8414 section 3.1).

    Raises:
        ConfigError: if it is not a URL that something may be sent to.
    """
    check_url(issuer)
    split = urlsplit(issuer)
    return f"{split.scheme}://{split.netloc}{_WELL_KNOWN}{split.path.rstrip('/')}"
