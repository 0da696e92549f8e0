"""Random logits sampled under a constraint: the output of a model with random weights, without the model."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from services.common.errors import PerigeeError
from services.decode.constraint.compiler import GrammarCompiler
from services.decode.constraint.rules import ConstraintRules
from services.decode.constraint.token_constraint import TokenConstraint
from services.engine.sampling.sampler import Sampler
from services.engine.sampling.spec import SamplingSpec
from services.engine.sampling.state import SamplingState


@dataclass(frozen=True)
class Said:
    """Tokens, and how they ended: "stop", "length" (at max_tokens, or closed early) or an error."""

    tokens: list[int]
    end: str
    is_cut: bool


class RandomSpeaker:
    """Samples at temperature 1 from normally distributed logits, the same for the same seed."""

    def __init__(self, compiler: GrammarCompiler) -> None:
        self._compiler = compiler
        self._sampler = Sampler(compiler.vocabulary.size)

    def constraint(self, rules: ConstraintRules, max_tokens: int, outputs: list[int] = ()) -> TokenConstraint:
        """A constraint that is ready and has taken `outputs`."""
        compiled = self._compiler.compile(rules.grammar)
        constraint = TokenConstraint("test", rules, compiled, self._compiler, max_tokens)
        constraint.start(list(outputs))
        return constraint

    def speak(
        self,
        rules: ConstraintRules,
        max_tokens: int,
        seed: int = 1,
        spec: SamplingSpec = SamplingSpec(),  # noqa: B008 - a frozen value
        outputs: list[int] = (),
        steer: dict[int, int] | None = None,
    ) -> Said:
        """`outputs`: tokens generated before; `steer`: tokens to force at a position, if they are allowed."""
        constraint = self.constraint(rules, max_tokens, outputs)
        state = SamplingState(spec, seed, 0, [1], outputs)
        state.constraint = constraint
        ends = self._compiler.vocabulary.markers.stops
        while len(state.output_ids) < max_tokens:
            position = len(state.output_ids)
            generator = torch.Generator().manual_seed(seed * 100_003 + position)
            logits = torch.randn(1, self._compiler.vocabulary.size, generator=generator)
            if steer and position in steer:
                logits[0, steer[position]] = 1000.0
            [token] = self._sampler.sample(logits, [state])
            if isinstance(token, PerigeeError):
                return Said(state.output_ids, token.message, constraint.is_cut)
            state.append(token.token_id)
            if constraint.is_end(token.token_id):
                return Said(state.output_ids, "length" if constraint.is_cut else "stop", constraint.is_cut)
            if token.token_id in ends:
                return Said(state.output_ids, "stop", False)
            if constraint.advance(token.token_id):
                constraint.prepare() or constraint.renew()
        return Said(state.output_ids, "length", constraint.is_cut)
