"""The guard of a gateway: the policy in force, and what it does to requests and answers.

Matches are counted, and each rule is logged once for a request, never with the text.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from common.error_texts import ErrorText
from common.errors import ContentBlocked, NotReady, UnsupportedParameter
from gateway.guard.classifier_client import RETRY_AFTER_S, ClassifierClient, ClassifierFailed
from gateway.guard.json_texts import checked_json
from gateway.guard.matcher import Match, forget_compiled, redacted
from gateway.guard.policy import ClassifierRule, Rule, Where, WrongPolicy, state_of
from gateway.guard.rules import Rules, read_rules
from gateway.measures.measures import Measures
from gateway.middleware.request_context import RequestContext
from gateway.translate.guarded_events import GuardedEvents
from gateway.translate.guarded_request import (
    InputText,
    generation_texts,
    has_token_ids,
    input_texts,
)
from gateway.translate.token_estimate import Inputs
from protos.y26hkx.v1 import chat_pb2

# Characters, after which other requests run.
AT_ONCE = 200_000

log = logging.getLogger(__name__)


class Guard:
    """
    Raises:
        WrongPolicy: the file is no policy.
    """

    def __init__(self, path: Path, measures: Measures) -> None:
        self._path = path
        self._measures = measures
        self._state = state_of(path)
        self._rules = read_rules(path)
        self._classifiers: list[ClassifierClient] = []
        self._use_classifiers()

    def of(self, context: RequestContext) -> "RequestGuard | None":
        """What guards a request; None if its key is exempt."""
        rules = self._current()
        if context.key is not None and context.key.id in rules.policy.exempt_keys:
            return None
        return RequestGuard(rules, self._classifiers, context, self._measures)

    async def close(self) -> None:
        """End the classifiers' processes."""
        for classifier in self._classifiers:
            await classifier.close()

    def _current(self) -> Rules:
        """The rules; a changed file is read again, and one that is wrong changes nothing."""
        state = state_of(self._path)
        if state != self._state:
            self._state = state
            forget_compiled()
            try:
                self._rules = read_rules(self._path)
                self._use_classifiers()
                log.info("the guard has a new policy: %s", self._path)
            except WrongPolicy as error:
                log.error("the guard keeps its policy, the new one cannot be used: %s", error)
        return self._rules

    def _use_classifiers(self) -> None:
        """Those of the policy; one that the policy had before goes on."""
        before, rules = self._classifiers, self._rules.policy.classifiers
        kept = {client.rule.name: client for client in before if client.rule in rules}
        self._classifiers = [kept.get(rule.name) or ClassifierClient(rule) for rule in rules]
        for client in before:
            if client.rule not in rules:
                client.end()


class RequestGuard:
    """The policy for one request."""

    def __init__(
        self,
        rules: Rules,
        classifiers: Sequence[ClassifierClient],
        context: RequestContext,
        measures: Measures,
    ) -> None:
        self._rules = rules
        self._classifiers = classifiers
        self._context = context
        self._logged: set[tuple[str, Where]] = set()
        self._measures = measures

    async def check(self, request: chat_pb2.GenerateRequest | Inputs) -> None:
        """Redact the texts of a request where rules say so.

        Raises:
            ContentBlocked: a rule refuses it.
            NotReady: a classifier that has to see it fails.
            UnsupportedParameter: it has token ids, which no rule can read.
        """
        if not self._rules.reads_input:
            return
        if self._rules.policy.token_ids == "block" and has_token_ids(request):
            is_chat = isinstance(request, chat_pb2.GenerateRequest)
            raise UnsupportedParameter(
                ErrorText("token_ids_unread"),
                param="prompt" if is_chat else "input",
                suggestions=(ErrorText("send_text"),),
            )
        if isinstance(request, chat_pb2.GenerateRequest):
            await self._check(generation_texts(request))
        else:
            await self._check(input_texts(request))

    def events(self, request: chat_pb2.GenerateRequest) -> GuardedEvents | None:
        """What the events of its answer go through; None if no rule is about answers."""
        if not self._rules.output:
            return None
        return GuardedEvents(
            request,
            self._rules.output,
            self._rules.hold_back,
            lambda rule: self._note(rule.name, rule.action, "output"),
        )

    async def _check(self, texts: Iterable[InputText]) -> None:
        n_at_once = 0
        passed: list[tuple[str, str]] = []
        for text in texts:
            n_at_once += len(text.text)
            if n_at_once > AT_ONCE:
                n_at_once = 0
                await asyncio.sleep(0)
            replacement, matches = self._matches(text)
            for rule in {match.rule.name: match.rule for match in matches}.values():
                self._apply(rule, text.param)
            passed.append((text.role, replacement))
            if replacement != text.text:
                text.replace(replacement)
        for classifier in self._classifiers:
            await self._classify(
                classifier, [t for role, t in passed if role in classifier.rule.roles]
            )

    async def _classify(self, classifier: ClassifierClient, texts: list[str]) -> None:
        if not texts:
            return
        rule = classifier.rule
        try:
            score = await classifier.highest(texts)
        except ClassifierFailed as error:
            log.warning("the classifier %s failed: %s", rule.name, error)
            if rule.on_failure == "pass":
                return
            text = ErrorText("classifier_failed", name=rule.name)
            raise NotReady(text, retry_after_s=RETRY_AFTER_S) from None
        if score >= rule.threshold:
            self._apply(rule)

    def _apply(self, rule: Rule | ClassifierRule, param: str | None = None) -> None:
        self._note(rule.name, rule.action, "input")
        if rule.action == "block":
            raise ContentBlocked(
                ErrorText("content_blocked", rule=rule.name),
                param=param,
                metadata={"rule": rule.name},
            )

    def _matches(self, text: InputText) -> tuple[str, list[Match]]:
        matcher = self._rules.input[text.role]
        if text.is_json:
            return checked_json(text.text, matcher)
        matches = matcher.find(text.text)
        return redacted(text.text, list(_redactions(matches))), matches

    def _note(self, rule: str, action: str, on: Where) -> None:
        self._measures.rules[rule][action, on] += 1
        # A request may have thousands of matches.
        if (rule, on) in self._logged:
            return
        self._logged.add((rule, on))
        log.info(
            "rule %s: %s on %s request_id=%s client=%s",
            *(rule, action, on, self._context.request_id, self._context.client or "-"),
        )


def _redactions(matches: Iterable[Match]) -> Iterator[Match]:
    return (match for match in matches if match.rule.action == "redact")
