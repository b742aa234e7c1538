"""A policy's rules, compiled for each kind of text that they apply to."""

from pathlib import Path

from gateway.guard.classifier import ENTRY_POINT_GROUP, installed_classifiers
from gateway.guard.folding import fold
from gateway.guard.matcher import CompiledRule, Matcher
from gateway.guard.policy import ROLES, Policy, WrongPolicy, read_policy

# Characters: a word may have more spaces in an answer, and what follows tells whether it ends.
LEAST_HELD = 16


class Rules:
    """
    Args:
        input: what finds the rules of requests, by the role of who wrote a text.
        output: what finds the rules of answers.
        hold_back: see `HeldText`.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        installed = installed_classifiers() if policy.classifiers else {}
        for classifier in policy.classifiers:
            if classifier.name not in installed:
                raise WrongPolicy(
                    f"no installed package has the classifier {classifier.name} "
                    f"(entry points {ENTRY_POINT_GROUP})"
                )
        compiled = [CompiledRule(rule) for rule in policy.rules]
        self._made: dict[tuple[str, ...], Matcher] = {}
        self.input = {
            role: self._matcher(
                [one for one in compiled if "input" in one.rule.on and role in one.rule.roles]
            )
            for role in ROLES
        }
        self.output = self._matcher([one for one in compiled if "output" in one.rule.on])
        self.hold_back = _hold_back(policy)

    @property
    def reads_input(self) -> bool:
        return bool(self.policy.classifiers) or any(self.input.values())

    def _matcher(self, rules: list[CompiledRule]) -> Matcher:
        """Rules that apply to the same texts are compiled once: many words take their time."""
        names = tuple(one.rule.name for one in rules)
        if names not in self._made:
            self._made[names] = Matcher(rules)
        return self._made[names]


def _hold_back(policy: Policy) -> int:
    """How much of an answer has to wait: less than the policy says if its rules are short."""
    strict = [rule for rule in policy.rules if "output" in rule.on and rule.action != "flag"]
    if any(rule.patterns for rule in strict):
        return policy.hold_back
    longest = max((len(fold(word)) for rule in strict for word in rule.words), default=0)
    return min(policy.hold_back, longest + LEAST_HELD)


def read_rules(path: Path) -> Rules:
    """
    Raises:
        WrongPolicy: the file is no policy, or RE2 does not take one of its patterns.
    """
    try:
        return Rules(read_policy(path))
    except WrongPolicy as error:
        raise WrongPolicy(f"{path}: {error}") from None
