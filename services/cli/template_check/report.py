"""What a comparison with a checkpoint's own template has found, as lines to print."""

from __future__ import annotations

from collections.abc import Iterator

from services.cli.template_check.comparison import Difference, Fit, Verdict

_BEFORE, _BEHIND = 40, 40


def lines(verdict: Verdict) -> Iterator[str]:
    """Yields a line or more for each profile, and then what to do."""
    for fit in verdict.fits:
        yield from _fit_lines(fit)
    fitting = [fit.profile.name for fit in verdict.fits if fit.fits]
    suggested = verdict.suggested.profile.name
    if not fitting:
        yield "no profile renders as the template does"
        return
    yield f"the template is that of {' and '.join(fitting)}"
    if suggested in fitting:
        yield f"served as {suggested} without further settings: {verdict.suggested.because}"
    else:
        yield f"set --model-profile {fitting[0]}, for it would be {suggested}: {verdict.suggested.because}"


def _fit_lines(fit: Fit) -> Iterator[str]:
    yield f"{fit.profile.name}: {fit.equal:,} of {fit.compared:,} prompts are equal"
    if fit.first is not None:
        yield from _difference_lines(fit.first)


def _difference_lines(found: Difference) -> Iterator[str]:
    yield f"  first difference at character {found.at:,}: {found.trial}"
    for name, text in (("template", found.template), ("Perigee", found.perigee)):
        begin = max(0, found.at - _BEFORE)
        # As a literal: no control character of the template reaches the terminal.
        yield f"    {name + ':':10}{text[begin : found.at + _BEHIND]!r}"
