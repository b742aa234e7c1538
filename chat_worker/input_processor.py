"""Converts a request's text to sequences for the engine: the part of the work before the model."""

from dataclasses import dataclass, replace

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
    Infill,
    LoadSpec,
    Message,
    Prompt,
    PromptTokens,
    Sampling,
    Tool,
)
from chat_worker.text.chat_format import ChatFormat, ReplyPlan
from chat_worker.text.infill import fit_infill
from chat_worker.text.prompt import Check, PromptEncoder, unchecked
from chat_worker.text.reply import ReplyFormat
from chat_worker.text.truncation import (
    FittedPrompt,
    PromptBounds,
    fit_conversation,
    fit_text,
    fit_tokens,
)
from common.error_texts import ErrorText
from common.errors import InvalidRequest, UnsupportedParameter
from common.sampling_ranges import RANGES

# The ranges of the fields in `Sampling` that always have a value.
SAMPLING_RANGES = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
)
# A prompt leaves at least this share of the context to the answer, unless the request needs less.
ANSWER_SHARE = 4


@dataclass(frozen=True)
class PreparedInput:
    """A prepared request: one sequence for each choice."""

    sequences: list[Sequence]
    fitted: FittedPrompt
    reply_format: ReplyFormat
    echo: bytes  # the prompt as text, if the request asks to repeat it
    ignored: list[str]  # request fields that have no effect


class InputProcessor:
    """Converts requests to sequences, for one loaded model."""

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

    def prepare(self, call_id: int, request: Generate, check: Check = unchecked) -> PreparedInput:
        """Render, tokenize and truncate the prompt, and check all parameters.

        Args:
            check: called between the parts of the work; an exception that it raises ends the work.
        Raises:
            InvalidRequest: the request is not valid.
        """
        self._check(request)
        if request.constraint is not None:
            # Compiled by itself, so that an error names the client's format and not our own
            # grammar.
            self._grammars.start(request.constraint)
        request = self._with_system_prompt(request)
        plan = self._planned(request)
        required_grammar = plan.required_grammar
        # The response format was compiled above.
        if (
            required_grammar
            and required_grammar.kind == "tools"
            and isinstance(request.input, Conversation)
        ):
            self._check_calls(required_grammar, request.input)
        check()
        fitted = self._fit(request, check)
        check()
        reply_format = plan.begun(fitted.tokens)
        n_prompt = len(fitted.tokens)
        most = self._limits.n_ctx if request.max_tokens is None else n_prompt + request.max_tokens
        params = self._params(request.sampling)
        # A grammar ends where it is complete, and marks this with an end token.
        runs_on = request.ignore_eos and required_grammar is None
        end_tokens = frozenset[int]() if runs_on else self._tokenizer.end_tokens

        def constraint() -> TokenConstraint | None:
            return plan.constraint(reply_format, self._grammars.start)

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
        return PreparedInput(sequences, fitted, reply_format, echo, plan.ignored)

    def _planned(self, request: Generate) -> ReplyPlan:
        plan = self._chat_format.plan(request)
        if plan.once_begun is not None:
            try:
                self._grammars.start(plan.once_begun)
            except InvalidRequest:
                # Optional calls need no grammar, so that no tool is refused because of its schema.
                is_strict = isinstance(request.input, Conversation) and any(
                    tool.strict for tool in request.input.tools
                )
                ignored = [*plan.ignored, "strict"] if is_strict else plan.ignored
                return replace(plan, once_begun=None, ignored=ignored)
        return plan

    def _with_system_prompt(self, request: Generate) -> Generate:
        if not isinstance(request.input, Conversation):
            return request
        if not request.input.messages:
            raise InvalidRequest(ErrorText("messages_empty"), param="messages")
        return msgspec.structs.replace(request, input=self.completed(request.input))

    def completed(self, conversation: Conversation) -> Conversation:
        """The conversation, with the configured system prompt if it has none."""
        prompt = self._spec.default_system_prompt
        has_own = any(m.role in ("system", "developer") for m in conversation.messages)
        if not prompt or has_own:
            return conversation
        begun = [Message(role="system", content=prompt), *conversation.messages]
        return msgspec.structs.replace(conversation, messages=begun)

    def _fit(self, request: Generate, check: Check) -> FittedPrompt:
        bounds = self._bounds(request.max_tokens)
        n_prefix = len(self._tokenizer.prefix)
        match request.input:
            case Conversation() as conversation:
                return fit_conversation(
                    conversation, lambda part: self._encoder.encode(part, check), bounds
                )
            case Prompt(text, parse_special):

                def encode(part: str) -> list[int]:
                    check()
                    return self._encoder.encode_text(part, parse_control=parse_special)

                fitted = fit_text(text, encode, bounds, n_prefix)
            case PromptTokens(ids):
                fitted = fit_tokens(ids, bounds, n_prefix)
            case Infill() as infill:
                fitted = self._fit_infill(infill, bounds, check)
        if not fitted.tokens:
            raise InvalidRequest(ErrorText("prompt_empty"), param="prompt")
        return fitted

    def _fit_infill(self, infill: Infill, bounds: PromptBounds, check: Check) -> FittedPrompt:
        marks = self._tokenizer.infill
        if marks is None:
            raise UnsupportedParameter(
                ErrorText("model_cannot_infill", model=self._spec.model_id),
                param="suffix",
                suggestions=(ErrorText("use_infill_model"), ErrorText("leave_suffix_out")),
            )

        def encode(part: str) -> list[int]:
            check()
            return self._tokenizer.encode(part, parse_control=False)

        return fit_infill(infill, marks, encode, self._tokenizer.prefix, bounds)

    def _bounds(self, max_tokens: int | None) -> PromptBounds:
        n_ctx = self._limits.n_ctx
        share = max(n_ctx // ANSWER_SHARE, 1)
        reserved = share if max_tokens is None else min(max(max_tokens, 1), share)
        most = n_ctx - reserved
        if self._spec.max_input_tokens:
            most = min(most, self._spec.max_input_tokens)
        wanted = self._spec.wanted_n_ctx
        why = (
            ErrorText("context_reduced", n_ctx=f"{n_ctx:,}", wanted=f"{wanted:,}") if wanted else ""
        )
        return PromptBounds(most, self._spec.max_input_chars, self._spec.on_overflow, why)

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
        for name in SAMPLING_RANGES:
            _check_range(name, getattr(sampling, name))
        _check_range("repetition_penalty", self._repetition_penalty(sampling))
        _check_range("n", request.n)
        _check_range("max_tokens", request.max_tokens or 0)
        _check_range("top_logprobs", request.top_logprobs or 0)
        for token, bias in sampling.logit_bias.items():
            self._check_token(token, "logit_bias")
            _check_range("logit_bias", bias)
        if isinstance(request.input, PromptTokens):
            for token in request.input.ids:
                self._check_token(token, "prompt")

    def _check_calls(self, required_grammar: ConstraintSpec, conversation: Conversation) -> None:
        """Check that the calls can be enforced.

        Raises:
            InvalidRequest: `required_grammar` cannot be enforced; the error names the tool at
                fault.
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
            error.param = param
            error.message = ErrorText("fault_of_tool", tool=tool.name, fault=error.message)
            raise

    def _check_token(self, token: int, param: str) -> None:
        if not 0 <= token < self._limits.n_vocab:
            raise InvalidRequest(
                ErrorText("token_not_in_vocabulary", token=token, n_vocab=self._limits.n_vocab),
                param=param,
            )


def _check_range(name: str, value: float) -> None:
    found = RANGES[name]
    if not found.holds(value):
        raise InvalidRequest(
            ErrorText("out_of_range", name=name, low=found.low, high=found.high), param=name
        )
