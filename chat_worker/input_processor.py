"""From a request's text to sequences that the engine can run: the front's half of the work."""

from dataclasses import dataclass

import msgspec

from chat_worker.backend import Tokenizer
from chat_worker.constraints.grammar import Grammars
from chat_worker.engine.prompt_lookup import PromptLookup
from chat_worker.engine.runner import Limits
from chat_worker.engine.sampling import Sampler, SamplingParams, TokenConstraint
from chat_worker.engine.sequence import Sequence
from chat_worker.pipe_messages import (
    ConstraintSpec,
    Conversation,
    Generate,
    LoadSpec,
    Message,
    Prompt,
    PromptTokens,
    Sampling,
    Tool,
)
from chat_worker.text.chat_format import ChatFormat
from chat_worker.text.prompt import PromptEncoder
from chat_worker.text.reply import ReplyFormat
from chat_worker.text.truncation import FittedPrompt, PromptBounds, fit_conversation, fit_tokens
from common.errors import InvalidRequest

MAX_CHOICES = 128
MAX_TOP_LOGPROBS = 20
# A prompt leaves at least this share of the context to the answer, unless less is asked for.
ANSWER_SHARE = 4


@dataclass(frozen=True)
class PreparedInput:
    """A request ready to run: one sequence for each choice."""

    sequences: list[Sequence]
    fitted: FittedPrompt
    reply_format: ReplyFormat
    echo: bytes  # the prompt as text, if it is to be repeated
    ignored: list[str]  # what was asked for and has no effect


class InputProcessor:
    """Turns requests into sequences, for one loaded model."""

    def __init__(
        self,
        spec: LoadSpec,
        tokenizer: Tokenizer,
        encoder: PromptEncoder,
        chat_format: ChatFormat,
        limits: Limits,
    ) -> None:
        self._spec = spec
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._chat_format = chat_format
        self._limits = limits
        self._grammars = Grammars(tokenizer)

    def prepare(self, call_id: int, request: Generate) -> PreparedInput:
        """Render, encode, trim, and check all numbers.

        Raises:
            InvalidRequest: the request cannot work as sent.
        """
        self._check(request)
        if request.constraint is not None:
            # By itself, so that a refusal names the format and not a grammar of ours.
            self._grammars.start(request.constraint)
        required_grammar = self._chat_format.required_grammar(request)
        # A format was tried above.
        if (
            required_grammar
            and required_grammar.kind == "tools"
            and isinstance(request.input, Conversation)
        ):
            self._check_calls(required_grammar, request.input)
        fitted = self._fit(request)
        reply_format = self._chat_format.reply_format(request, fitted.tokens)
        n_prompt = len(fitted.tokens)
        most = self._limits.n_ctx if request.max_tokens is None else n_prompt + request.max_tokens
        params = self._params(request.sampling)
        # A grammar ends where it ends, and says so by an end token.
        runs_on = request.ignore_eos and required_grammar is None
        end_tokens = frozenset[int]() if runs_on else self._tokenizer.end_tokens

        def constraint() -> TokenConstraint | None:
            answer = None if required_grammar is None else self._grammars.start(required_grammar)
            return self._chat_format.constraint_after_thinking(request, reply_format, answer)

        sequences = [
            Sequence(
                call_id=call_id,
                choice=choice,
                tokens=list(fitted.tokens),
                limit=min(most, self._limits.n_ctx),
                sampler=Sampler(params, fitted.tokens, choice, constraint()),
                end_tokens=end_tokens,
                salt=request.cache_salt,
                n_top=request.top_logprobs,
                prompt_lookup=PromptLookup() if self._spec.speculate else None,
                score_prompt=request.echo and request.top_logprobs is not None,
            )
            for choice in range(request.n)
        ]
        pieces = (self._tokenizer.piece(token, show_control=True) for token in fitted.tokens)
        echo = b"".join(pieces) if request.echo else b""
        return PreparedInput(
            sequences, fitted, reply_format, echo, self._chat_format.ignored(request)
        )

    def completed(self, conversation: Conversation) -> Conversation:
        """The conversation with what this server adds: its system prompt if there is none, and the
        tools if the model's template does not tell of them."""
        prompt = self._spec.default_system_prompt
        has_own = any(m.role in ("system", "developer") for m in conversation.messages)
        if prompt and not has_own:
            begun = [Message(role="system", content=prompt), *conversation.messages]
            conversation = msgspec.structs.replace(conversation, messages=begun)
        return self._chat_format.with_tools_described(conversation)

    def _fit(self, request: Generate) -> FittedPrompt:
        bounds = self._bounds(request.max_tokens)
        match request.input:
            case Conversation() as conversation:
                if not conversation.messages:
                    raise InvalidRequest("messages must not be empty", param="messages")
                whole = self.completed(conversation)
                return fit_conversation(whole, self._encoder.encode, bounds)
            case Prompt(text, parse_special):
                kept = text[-bounds.max_chars :] if bounds.max_chars else text
                tokens = self._encoder.encode_text(kept, parse_control=parse_special)
            case PromptTokens(ids):
                tokens = ids
        if not tokens:
            raise InvalidRequest("the prompt must not be empty", param="prompt")
        return fit_tokens(tokens, bounds, len(self._tokenizer.prefix))

    def _bounds(self, max_tokens: int | None) -> PromptBounds:
        n_ctx = self._limits.n_ctx
        share = max(n_ctx // ANSWER_SHARE, 1)
        reserved = share if max_tokens is None else min(max(max_tokens, 1), share)
        most = n_ctx - reserved
        if self._spec.max_input_tokens:
            most = min(most, self._spec.max_input_tokens)
        return PromptBounds(
            most, self._spec.max_input_chars, self._spec.on_overflow, self._spec.why_short
        )

    def _params(self, sampling: Sampling) -> SamplingParams:
        seed = self._spec.global_seed if sampling.seed is None else sampling.seed
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            repetition_penalty=self._repetition_penalty(sampling),
            frequency_penalty=sampling.frequency_penalty,
            presence_penalty=sampling.presence_penalty,
            seed=seed,
            logit_bias=sampling.logit_bias,
        )

    def _repetition_penalty(self, sampling: Sampling) -> float:
        sent = sampling.repetition_penalty
        return self._spec.repetition_penalty if sent is None else sent

    def _check(self, request: Generate) -> None:
        sampling = request.sampling
        _within("n", request.n, 1, MAX_CHOICES)
        _within("temperature", sampling.temperature, 0, 100)
        _within("top_p", sampling.top_p, 0, 1)
        _within("min_p", sampling.min_p, 0, 1)
        _within("repetition_penalty", self._repetition_penalty(sampling), 0.01, 100)
        _within("frequency_penalty", sampling.frequency_penalty, -100, 100)
        _within("presence_penalty", sampling.presence_penalty, -100, 100)
        _within("top_logprobs", request.top_logprobs or 0, 0, MAX_TOP_LOGPROBS)
        for token, bias in sampling.logit_bias.items():
            self._check_token(token, "logit_bias")
            _within("logit_bias", bias, -100, 100)
        if isinstance(request.input, PromptTokens):
            for token in request.input.ids:
                self._check_token(token, "prompt")

    def _check_calls(self, required_grammar: ConstraintSpec, conversation: Conversation) -> None:
        """
        Raises:
            InvalidRequest: calls cannot be held to `required_grammar`; names the tool at fault.
        """
        try:
            self._grammars.start(required_grammar)
        except InvalidRequest:
            only = conversation.must_call_name
            for index, tool in enumerate(conversation.tools):
                if only in ("", tool.name):
                    self._check_parameters(tool, f"tools[{index}].function.parameters")
            raise

    def _check_parameters(self, tool: Tool, param: str) -> None:
        try:
            self._grammars.start(ConstraintSpec("json_schema", tool.parameters))
        except InvalidRequest as error:
            error.param, error.message = param, f"tool {tool.name!r}: {error.message}"
            raise

    def _check_token(self, token: int, param: str) -> None:
        if not 0 <= token < self._limits.n_vocab:
            raise InvalidRequest(
                f"token {token} is not in the vocabulary of {self._limits.n_vocab}", param=param
            )


def _within(param: str, value: float, low: float, high: float) -> None:
    # Written so that NaN fails.
    if not low <= value <= high:
        raise InvalidRequest(f"{param} must be between {low:g} and {high:g}", param=param)
