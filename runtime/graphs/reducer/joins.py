"""Which values a join can start with, and what may still come to it: questions about branches; nothing here changes them."""

from __future__ import annotations

from typing import final

from actors.graphs.edges import Receiver
from actors.graphs.node import Input, NodeSpec
from actors.graphs.plan import Plan
from runtime.graphs.reducer.branches import Branch, Value


@final
class Joins:
    """The joins of one plan, asked about the branches of one run."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._per_round: dict[tuple[str, Receiver], bool] = {}

    def available(self, branch: Branch, spec: NodeSpec, entry: Input) -> Value | None:
        """The next value of one parameter: the branch's own, else the nearest one further out.

        A value from further out is there for every branch of a fan-out. When fan-out and value are made in the same loop, the
        n-th fan-out takes the n-th value.
        """
        here = branch.joins[spec.name].queues.get(entry.name)
        if here:
            return here[0]
        for around, fork in branch.outward():
            buffer = around.joins.get(spec.name)
            queue = buffer.queues.get(entry.name) if buffer is not None else None
            if buffer is None or not queue:
                continue
            at = 0
            if self._is_per_round(fork.node, Receiver(spec.name, entry.name)):
                at = fork.number - buffer.taken.get(entry.name, 0)
            if 0 <= at < len(queue):
                return queue[at]
        return None

    def _is_per_round(self, fan_out: str, receiver: Receiver) -> bool:
        key = (fan_out, receiver)
        if key not in self._per_round:
            loop = next((group for group in self._plan.components if fan_out in group), ())
            makers = [e.source for e in self._plan.edges if e.target == receiver.node and e.parameter == receiver.parameter]
            self._per_round[key] = any(maker in loop for maker in makers)
        return self._per_round[key]

    def missing(self, branch: Branch, spec: NodeSpec) -> list[Input]:
        """The parameters that no value has come for, here or further out."""
        return [entry for entry in spec.inputs if self.available(branch, spec, entry) is None]

    def _may_come(self, branch: Branch, receiver: Receiver) -> bool:
        """Whether anything at work can still make a value for a parameter of a join in `branch`."""
        if any(self._plan.reaches_inward(node, receiver) for node in branch.own):
            return True
        for around, fork in branch.outward():
            itself = 1 + fork.is_open  # what the fork gathers comes only after this branch has ended
            for node, count in around.own.items():
                if count > (itself if node == fork.node else 0) and self._plan.reaches_on_level(node, receiver):
                    return True
        return False

    def may_complete(self, branch: Branch, spec: NodeSpec) -> bool:
        """Whether everything that the join cannot do without can still come; for the rest it waits no longer than it may come."""
        needed = [Receiver(spec.name, entry.name) for entry in self.missing(branch, spec) if not entry.optional]
        return all(receiver in self._plan.signalled or self._may_come(branch, receiver) for receiver in needed)

    def may_be_signalled(self, branch: Branch, spec: NodeSpec) -> bool:
        """Whether all that the join cannot do without may still be brought by a signal."""
        needed = [Receiver(spec.name, entry.name) for entry in self.missing(branch, spec) if not entry.optional]
        return bool(needed) and all(receiver in self._plan.signalled for receiver in needed)

    def ready_without(self, branch: Branch, *, force: bool = False) -> tuple[NodeSpec, list[Input]] | None:
        """The join in `branch` that is to start without what it lacks, all of it optional and none of it still to come.

        With `force`, also if something at work could still make it. Of several, one that no other could make a value for.
        """
        ready: list[tuple[NodeSpec, list[Input]]] = []
        for node in sorted(branch.joins, key=self._plan.order.__getitem__):
            spec = self._plan.nodes[node]
            if not branch.joins[node].is_waiting or not any(entry.optional for entry in spec.inputs):
                continue
            missing = self.missing(branch, spec)
            if not all(entry.optional for entry in missing):
                continue
            if force or not any(self._may_come(branch, Receiver(node, entry.name)) for entry in missing):
                ready.append((spec, missing))
        return next((pair for pair in ready if not self._comes_after(pair, ready)), ready[0] if ready else None)

    def _comes_after(self, pair: tuple[NodeSpec, list[Input]], ready: list[tuple[NodeSpec, list[Input]]]) -> bool:
        """Whether another join that is ready may yet make what this one lacks, and not the other way round."""
        spec, missing = pair
        for other, lacking in ready:
            makes = any(self._plan.reaches_inward(other.name, Receiver(spec.name, entry.name)) for entry in missing)
            needs = any(self._plan.reaches_inward(spec.name, Receiver(other.name, entry.name)) for entry in lacking)
            if other is not spec and makes and not needs:
                return True
        return False
