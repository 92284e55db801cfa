"""What made a run take its time and cost its money: by node and by cause. Pure.

Time: from the end of a run back to its begin there is always something that what came after had to wait for: the **critical
path**. It is followed back from the run's end: an attempt of a node, before it the wait for one of the node's instances, before
that the attempt whose output the message was, and so on. Each microsecond of the run belongs to one node and one cause, so the
parts add up to the whole. Inside an attempt its calls of language models and their requests say what the time was spent on.

Money: each request to a language model belongs to the node that made it, and to the cause for which it was made, on the critical
path or not. The parts add up to the run's bill.

``runtime/inspector/static/blame.js`` does the same on the page; tests/browser holds both to the same figures.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterator, Sequence
from typing import Final, final

import attrs

from runtime.traces.steps import Attempt, Call, CallRequest, Trace

SLACK_US: Final = 2_000
"""How much later than its message was delivered the end of what made it may be noted: both are read from the clock one by one."""
ROUNDED_US: Final = 2
"""A wait and the time of its end are rounded one by one: so much between two steps is none."""


@final
class Cause(enum.StrEnum):
    """Why time passed, or tokens were paid for; equal to its plain word."""

    WORK = "work"
    """It led to the run's result."""
    WAITING = "waiting"
    """In the mailbox, for one of the node's instances."""
    BACKOFF = "backoff"
    """Between an attempt, or a request, that failed and the next one."""
    LIMIT = "limit"
    """A call waited to be sent: for a connection, a rate limit or a budget."""
    RETRY = "retry"
    """Attempts and requests that failed."""
    HEDGE = "hedge"
    """A second request beside a slow first one: the money of the one that lost, and the time until the one that won was sent."""
    UNREADABLE = "parse failure"
    """Answers that could not be read."""
    TRUNCATED = "truncation"
    """Answers that stopped in the middle."""
    PERSON = "person"
    """A person was asked."""
    CANCELLED = "cancelled"
    """Work whose result was no longer wanted."""
    RUNTIME = "runtime"
    """No node worked: messages were delivered, records were stored; of a resumed run also the time between its processes."""


_FAILED_AS: Final = {"LMReplyUnreadable": Cause.UNREADABLE, "LMTruncated": Cause.TRUNCATED}
"""By the class of the error: why an attempt, or the call that it ended with, came to nothing."""
_AGAIN: Final = {"unreadable": Cause.UNREADABLE, "truncated": Cause.TRUNCATED}


@final
@attrs.define(eq=False)
class Share:
    """What one node's part in the run comes to for one cause."""

    node: str
    """Empty for what belongs to none: the cause is ``"runtime"`` then."""
    cause: Cause
    time_us: int = 0
    """Its part of the critical path, in microseconds. All of them together are the run's duration."""
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0


@final
@attrs.frozen
class Piece:
    """A part of the critical path."""

    node: str
    path: str
    cause: Cause
    began_us: int
    ended_us: int


@final
@attrs.frozen
class Blame:
    """Where a run's time and money went; see :func:`blame_of`."""

    shares: Sequence[Share]
    """The longest first, and of those that took no time the dearest."""
    path: Sequence[Piece]
    """The critical path from its begin to its end, without gaps."""
    duration_us: int
    """The run's, in microseconds."""

    def by_cause(self) -> Sequence[Share]:
        """The shares of all nodes together, for each cause."""
        found: dict[Cause, Share] = {}
        for share in self.shares:
            whole = found.setdefault(share.cause, Share("", share.cause))
            _add(whole, share)
        return sorted(found.values(), key=_weight)


def blame_of(trace: Trace) -> Blame:
    """Where the time and the money of a run went, by node and by cause.

    A run that goes on is told so far, and nothing is known about events that are missing. Times are exact sums: the shares'
    ``time_us`` add up to ``duration_us``, their tokens and requests to those of the run's calls, in its spend too.
    """
    pieces = list(_Walk(trace).pieces())[::-1]
    shares: dict[tuple[str, Cause], Share] = {}

    def share(node: str, cause: Cause) -> Share:
        return shares.setdefault((node, cause), Share(node, cause))

    for piece in pieces:
        share(piece.node, piece.cause).time_us += piece.ended_us - piece.began_us
    for attempt in trace.attempts:
        causes = call_causes(attempt)
        for call in attempt.calls:
            for used, cause in _bill(call, causes[call.number]):
                _add(share(attempt.node, cause), used)
    return Blame(sorted(shares.values(), key=_weight), pieces, trace.duration_us)


def _weight(share: Share) -> tuple[int, float, int, str, str]:
    return -share.time_us, -share.cost_usd, -share.prompt_tokens - share.completion_tokens, share.node, share.cause


def _add(to: Share, other: Share) -> None:
    to.time_us += other.time_us
    to.requests += other.requests
    to.prompt_tokens += other.prompt_tokens
    to.completion_tokens += other.completion_tokens
    to.cost_usd += other.cost_usd


# --- the critical path -------------------------------------------------------------------------------------------------


@final
class _Walk:
    """Goes back along the critical path of one run."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._by_path: dict[str, list[Attempt]] = {}
        self._inside: dict[int, list[Attempt]] = {}
        """By the identity of an attempt: those of the nested graph that its node stands for."""
        self._outermost: list[Attempt] = []
        for attempt in trace.attempts:
            self._by_path.setdefault(attempt.path, []).append(attempt)
        for attempt in trace.attempts:
            around = self._around(attempt)
            (self._outermost if around is None else self._inside.setdefault(id(around), [])).append(attempt)

    def _around(self, attempt: Attempt) -> Attempt | None:
        """The innermost attempt inside of which `attempt` was made."""
        parts = attempt.path.split("/")
        found: Attempt | None = None
        for length in range(1, len(parts)):
            for each in self._by_path.get("/".join(parts[:length]), ()):
                is_open = each.began_seq < attempt.began_seq and (each.ended_seq is None or each.ended_seq > attempt.began_seq)
                if is_open and each.encloses(attempt.path):
                    found = each
        return found

    def pieces(self) -> Iterator[Piece]:
        """The pieces of the path, the last first."""
        trace = self._trace
        yield from self._back(self._outermost, trace.began_us, trace.ended_us, None)

    def _back(self, attempts: Sequence[Attempt], begin_us: int, end_us: int, around: Attempt | None) -> Iterator[Piece]:
        """From `end_us` back to `begin_us`, along `attempts`; what belongs to none of them is that of `around`."""
        outputs = _Outputs(self._trace, attempts)
        at_us, seq = end_us, None
        while at_us > begin_us:
            found = outputs.last_before(at_us, seq)
            if found is None:
                yield from self._between(around, begin_us, at_us)
                return
            attempt, output_us = found
            output_us = at_us if at_us - output_us <= ROUNDED_US else min(output_us, at_us)
            if output_us < at_us:
                yield from self._between(around, max(output_us, begin_us), at_us)
            at_us = min(at_us, max(output_us, begin_us))
            began_us = min(at_us, max(attempt.began_us, begin_us))
            yield from self._within(attempt, began_us, at_us)
            delivered_us = min(began_us, max(attempt.delivered_us, begin_us))
            yield from _waits(attempt, delivered_us, began_us)
            at_us, seq = delivered_us, attempt.began_seq

    def _between(self, around: Attempt | None, begin_us: int, end_us: int) -> Iterator[Piece]:
        if around is not None:
            yield from self._calls(around, begin_us, end_us)
        elif end_us > begin_us:
            yield Piece("", "", Cause.RUNTIME, begin_us, end_us)

    def _within(self, attempt: Attempt, begin_us: int, end_us: int) -> Iterator[Piece]:
        """What an attempt did in that time, the last first."""
        inside = self._inside.get(id(attempt))
        if inside:
            yield from self._back(inside, begin_us, end_us, attempt)
        else:
            yield from self._calls(attempt, begin_us, end_us)

    def _calls(self, attempt: Attempt, begin_us: int, end_us: int) -> Iterator[Piece]:
        """The attempt's own time, cut where its calls and requests begin and end, the last first."""
        if end_us <= begin_us:
            return
        own = _cause_of(attempt)
        spans = [*self._asked(attempt), *_call_spans(attempt, self._trace)]
        cuts = sorted({begin_us, end_us, *(cut for each in spans for cut in each[:2] if begin_us < cut < end_us)})
        merged: list[Piece] = []
        for begin, end in itertools.pairwise(cuts):
            causes = [cause for began, ended, cause in spans if began <= begin and end <= ended]
            # Work that goes on beside a wait is what the time was for.
            cause = own if not causes or Cause.WORK in causes else causes[0]
            if merged and merged[-1].cause is cause:
                merged[-1] = attrs.evolve(merged[-1], ended_us=end)
            else:
                merged.append(Piece(attempt.node, attempt.path, cause, begin, end))
        yield from reversed(merged)

    def _asked(self, attempt: Attempt) -> Iterator[tuple[int, int, Cause]]:
        for path, asked_us, answered_us in self._trace.questions.values():
            if path == attempt.path or attempt.encloses(path):
                yield asked_us, self._trace.ended_us if answered_us is None else answered_us, Cause.PERSON


@final
class _Outputs:
    """What attempts have made, and when: each of them may be what a later one had to wait for."""

    def __init__(self, trace: Trace, attempts: Sequence[Attempt]) -> None:
        never = float("inf")
        wanted: list[tuple[int, float, Attempt]] = []
        unwanted: list[tuple[int, float, Attempt]] = []
        for attempt in attempts:
            end_us, end_seq = trace.end_of(attempt), never if attempt.ended_seq is None else attempt.ended_seq
            (unwanted if attempt.status == "cancelled" else wanted).append((end_us, end_seq, attempt))
            wanted += [(item_us, item_seq, attempt) for item_us, item_seq in attempt.items]
        self._lists = [sorted(each, key=lambda output: output[:2]) for each in (wanted, unwanted)]
        self._places = [len(each) for each in self._lists]

    def last_before(self, at_us: int, seq: int | None) -> tuple[Attempt, int] | None:
        """The attempt with the latest output that had come by `at_us`, before event number `seq`; and when.

        What was cancelled has kept nothing waiting, unless the run, or the attempt around it, ended with it.
        """
        latest: tuple[Attempt, int] | None = None
        for which, outputs in enumerate(self._lists):
            place = self._places[which]
            while place and not _came_by(outputs[place - 1], at_us, seq):
                place -= 1
            self._places[which] = place  # the walk goes back: what is too late now is too late from here on
            if place and (latest is None or (seq is None and outputs[place - 1][0] > latest[1] + SLACK_US)):
                output_us, _, attempt = outputs[place - 1]
                latest = attempt, output_us
        return latest


def _came_by(output: tuple[int, float, Attempt], at_us: int, seq: int | None) -> bool:
    output_us, output_seq, attempt = output
    return output_us <= at_us + SLACK_US and (seq is None or (output_seq < seq and attempt.began_seq < seq))


def _waits(attempt: Attempt, delivered_us: int, began_us: int) -> Iterator[Piece]:
    """The wait before an attempt, the last part first: held back after a failure, then in the mailbox."""
    held_us = min(began_us, delivered_us + attempt.backoff_us)
    if began_us > held_us:
        yield Piece(attempt.node, attempt.path, Cause.WAITING, held_us, began_us)
    if held_us > delivered_us:
        yield Piece(attempt.node, attempt.path, Cause.BACKOFF, delivered_us, held_us)


# --- causes ------------------------------------------------------------------------------------------------------------


def _cause_of(attempt: Attempt) -> Cause:
    if attempt.error is not None:
        return _FAILED_AS.get(str(attempt.error_type), Cause.RETRY)
    return Cause.CANCELLED if attempt.status == "cancelled" else Cause.WORK


def call_causes(attempt: Attempt) -> dict[int, Cause]:
    """By the number of each of the attempt's calls: what its answer was good for."""
    own = _cause_of(attempt)
    found = dict.fromkeys((call.number for call in attempt.calls), own)
    if own in (
        Cause.UNREADABLE,
        Cause.TRUNCATED,
    ):  # the last answer is what it failed with; of those before it the next call tells
        found = dict.fromkeys(found, Cause.RETRY)
        ended = [call for call in attempt.calls if call.ended_us is not None]
        if ended:
            found[max(ended, key=lambda call: (call.ended_us, call.number)).number] = own
    for call in attempt.calls:
        if call.again in _AGAIN:
            before = [
                each
                for each in attempt.calls
                if each.ended_us is not None and each.ended_us <= call.began_us and each is not call
            ]
            if before:
                found[max(before, key=lambda each: (each.ended_us, each.number)).number] = _AGAIN[call.again]
    for call in attempt.calls:
        if call.error is not None and found[call.number] is Cause.WORK:
            found[call.number] = Cause.RETRY  # the node went on without it
    return found


def _call_spans(attempt: Attempt, trace: Trace) -> Iterator[tuple[int, int, Cause]]:
    """From when to when something in the attempt's calls has its own cause, or is work."""
    causes = call_causes(attempt)
    for call in attempt.calls:
        end_us = trace.end_of(attempt) if call.ended_us is None else call.ended_us
        cause = causes[call.number]
        if not call.made:
            yield call.began_us, end_us, cause
            continue
        winner = _winner(call)
        at_us = call.began_us
        for request in sorted(call.made, key=lambda each: each.asked_us):
            is_hedged = winner is not None and request is not winner and request.ended_us > winner.asked_us
            asked_us = min(end_us, call.began_us + request.asked_us)
            if asked_us > at_us:
                yield at_us, asked_us, Cause.LIMIT if at_us == call.began_us else Cause.BACKOFF
            if is_hedged:  # a slow one, beside which the one that won was sent
                won_us = min(end_us, call.began_us + winner.asked_us) if winner is not None else end_us
                if won_us > asked_us:
                    yield asked_us, won_us, Cause.HEDGE
                at_us = max(at_us, won_us)
                continue
            begin_us = max(at_us, asked_us)
            sent_us = end_us if request.sent_us is None else min(end_us, call.began_us + request.sent_us)
            ended_us = min(end_us, call.began_us + request.ended_us)
            if sent_us > begin_us:
                yield begin_us, sent_us, Cause.LIMIT
            begin_us = max(begin_us, sent_us)
            if ended_us > begin_us:
                yield begin_us, ended_us, cause if request is winner or request.error is None else Cause.RETRY
            at_us = max(at_us, ended_us)
        if end_us > at_us:
            yield at_us, end_us, cause


def _winner(call: Call) -> CallRequest | None:
    """The request whose answer was the call's: the first that was answered."""
    answered = [request for request in call.made if request.is_answered]
    return min(answered, key=lambda request: request.ended_us, default=None)


def _bill(call: Call, cause: Cause) -> Iterator[tuple[Share, Cause]]:
    """What the call used, by cause; all of it together is what the call says that it has used."""
    rest = Share("", cause, 0, call.requests, call.prompt_tokens, call.completion_tokens, call.cost_usd)
    winner = _winner(call)
    for request in call.made:
        if request is winner:
            continue
        overlaps = any(
            each is not request and each.asked_us < request.ended_us and request.asked_us < each.ended_us for each in call.made
        )
        why = Cause.HEDGE if overlaps else Cause.RETRY if request.error is not None else cause
        count = min(rest.requests, 1)
        used = Share("", why, 0, count, request.prompt_tokens, request.completion_tokens, request.cost_usd)
        rest.requests -= used.requests
        rest.prompt_tokens -= used.prompt_tokens
        rest.completion_tokens -= used.completion_tokens
        rest.cost_usd -= used.cost_usd
        yield used, why
    yield rest, cause
