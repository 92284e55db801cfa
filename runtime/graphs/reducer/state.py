"""The reducer of one run: what happened goes in, what is to be done comes out. No clock, no task, no I/O.

The engine tells it that the run starts, that a node emitted an item, returned or failed on a delivery; it answers with the
deliveries to make and those to cancel. The same events in another order give the same joins, gathered lists and paths:

- A join takes the values of each parameter in the order in which the deliveries that made them were started, not ended.
- A gathered list is in item order; those of several fan-outs of one node reach a join in the order in which these were started.
- A path is made of the way through the graph: ``graph/node/iteration``, and behind a fan-out ``…/item/node/iteration``.

What does depend on timing, because the author asked for it: ``Gather(first=k)``, and the first of several outputs.

An event costs time in the depth of the fan-outs and the number of nodes at work, not in the number of deliveries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import final

from actors.errors import DeclarationError, InternalError
from actors.graphs.annotations import Many
from actors.graphs.edges import Receiver
from actors.graphs.finish import Finish
from actors.graphs.markers import Gather
from actors.graphs.node import NodeSpec
from runtime.graphs.reducer.branches import NOTHING_RECALLED, Branch, Delivery, Fork, Value
from runtime.graphs.reducer.deliveries import Commands, Deliveries
from runtime.graphs.reducer.recalling import before, including, recall
from runtime.graphs.reducer.routing import NOWHERE, Destination, Route, RoutingTable
from runtime.graphs.reducer.values import gathered, sent, way_along
from runtime.graphs.reducer.wording import check_made, items_of, no_output, undeclared, wrong_input, wrong_signal, wrong_stand_in

_Precedence = tuple[tuple[int, ...], int, int, str]
"""Branch, round of a loop, place of the maker in the declaration, way: of several outputs the least is taken."""


@final
class RunState:
    """One run of a plan. Events are methods; each returns :class:`Commands`.

    ``output`` is the output message once it is decided; the run is then over. That is the first to come or, for a graph that
    finishes when quiet, one of those there are when nothing is at work. ``is_at_rest`` says that nothing is at work and nothing
    more will come.
    """

    def __init__(self, routing: RoutingTable, run_id: str, prefix: str | None = None) -> None:
        """A run that has not started; its paths begin with `prefix`, by default the graph's name."""
        self.routing = routing
        self.plan = plan = routing.plan
        self.run_id = run_id
        self.output: object | None = None
        self._root = Branch(prefix or plan.name)
        self._deliveries = Deliveries(routing, run_id)
        self._quiet: list[tuple[Branch, str | None]] = []
        self._left: list[tuple[Branch, str]] = []  # ended branches with the joins that they left waiting
        self._lost: dict[tuple[str | None, str], int] = {}  # messages that every condition was false for
        self._empty: dict[str, int] = {}  # fan-outs without an item, which nothing gathers
        self._is_started = False
        self._joins = routing.joins
        self._only_ways = routing.only_ways
        self._ends_when_quiet = routing.finish is Finish.WHEN_QUIET
        self._outputs: list[tuple[_Precedence, Branch, object]] = []
        """For a run that ends when it is quiet: the outputs so far."""

    # --- what the engine may ask ------------------------------------------------------------------------------------

    @property
    def is_at_rest(self) -> bool:
        """Nothing is at work: the run has its output, or will never have one."""
        return self._is_started and not self._deliveries.at_work

    @property
    def live_paths(self) -> tuple[str, ...]:
        """The deliveries at work, in the order of their start."""
        return tuple(self._deliveries.at_work)

    @property
    def at_work(self) -> tuple[Delivery, ...]:
        """Those deliveries themselves."""
        return tuple(self._deliveries.at_work.values())

    def is_at_work(self, path: str) -> bool:
        """Whether a delivery is at work: neither ended nor cancelled."""
        return path in self._deliveries.at_work

    @property
    def steps(self) -> int:
        """Messages delivered so far."""
        return self._deliveries.begun

    def emitted_by(self, path: str) -> int:
        """How many items a generator at work has emitted."""
        delivery = self._deliveries.find(path)
        return delivery.fork.next_index if delivery is not None and delivery.fork is not None else 0

    # --- events -----------------------------------------------------------------------------------------------------

    def start(self, message: object) -> Commands:
        """Begin with the input message.

        Raises:
            DeclarationError: it is not of the graph's input type.
        """
        if self._is_started:
            raise InternalError(f"run {self.run_id!r} was started twice")
        if not isinstance(message, self.plan.input_types):
            raise wrong_input(self.plan, message)
        route = self.routing.route(None, message)
        self._is_started = True
        self._send(None, self._root, message, route)
        if self._root.joins:
            self._quiet.append((self._root, None))
        return self._commands()

    def emitted(self, path: str, value: object, index: int) -> Commands:
        """A generator yielded its item number `index`, from 0; what a repeatable one yields again after a failure is ignored.

        Raises:
            DeclarationError: the item is not of a type that the node declares.
        """
        delivery = self._deliveries.find(path)
        if delivery is None:
            return Commands()
        spec = self.plan.nodes[delivery.node]
        route = self._route(spec, value, nothing=spec.item_may_end, index=index)
        fork = delivery.fork or delivery.branch.open_fork(delivery)
        if index > fork.next_index:
            raise InternalError(f"{path} emitted item {index} when item {fork.next_index} was next")
        if index == fork.next_index:
            self._open_branch(fork, value, route)
        return self._commands()

    def finished(self, path: str, returned: object = None) -> Commands:
        """The node returned for a delivery: a message, None, or for a list fan-out the list; nothing for a generator.

        Raises:
            DeclarationError: what it returned is not what the node declares; the delivery is still at work for the reducer, which
                expects :meth:`ended` for it.
        """
        delivery = self._deliveries.find(path)
        if delivery is None:
            return Commands()
        to = self.only_way(delivery, returned)
        following = None if to is None else self.followed(delivery, to, returned)
        if following is not None:
            return Commands((following,))  # what the rest of this method would do, as it is for most messages
        spec = self.plan.nodes[delivery.node]
        self._deliveries.current = path
        if spec.fan_out is Many.ONE:
            self._send(delivery, delivery.branch, returned, self._route(spec, returned, nothing=spec.may_end))
        elif spec.fan_out is Many.STREAM:
            self._close_fork(delivery.fork or delivery.branch.open_fork(delivery))
        else:
            items = items_of(spec, returned)
            if items is not None:
                routes = [self._route(spec, item, nothing=spec.item_may_end, index=at) for at, item in enumerate(items)]
                fork = delivery.branch.open_fork(delivery)
                for item, route in zip(items, routes, strict=True):
                    self._open_branch(fork, item, route)
                self._close_fork(fork)
        self._end(delivery)
        return self._commands()

    def only_way(self, delivery: Delivery, returned: object) -> Destination | None:
        """Where what a node returned goes, if that is one node that takes nothing else; None if there may be more to it."""
        return self._only_ways.get((delivery.node, type(returned)))

    def followed(self, delivery: Delivery, to: Destination, returned: object) -> Delivery | None:
        """:meth:`finished` for a delivery at work whose node returned what goes only `to`: the delivery that comes of it.

        None, and nothing has changed, if there is more to do than that.
        """
        return None if self.output is not None or self._quiet else self._deliveries.follow(delivery, to, returned)

    def stood_in(self, path: str, returned: object) -> Commands:
        """A fallback returned in place of the node; that of the graph gives the output of the run, or None to end the branch.

        Raises:
            DeclarationError: it is not what the fallback declares; as for :meth:`finished`.
        """
        delivery = self._deliveries.find(path)
        if delivery is None:
            return Commands()
        spec = self.plan.nodes[delivery.node]
        if spec.fallback is None or not spec.fallback.is_default:
            return self.finished(path, returned)
        if returned is None and spec.fallback.may_end:
            return self.ended(path)
        if not isinstance(returned, self.plan.output_types):
            raise wrong_stand_in(self.plan, spec, returned)
        self._deliveries.current = path
        self._put_out(delivery, delivery.branch, returned)
        self._end(delivery)
        return self._commands()

    def ended(self, path: str) -> Commands:
        """The node failed permanently, or was cancelled: the branch ends with nothing made."""
        delivery = self._deliveries.find(path)
        if delivery is None:
            return Commands()
        self._deliveries.current = path
        if delivery.fork is not None:
            self._close_fork(delivery.fork)
        self._end(delivery)
        return self._commands()

    def retracted(self, path: str, has_begun: Callable[[str], bool]) -> Commands | None:
        """An attempt of a generator failed and another is to come: forget the items that it emitted, as if it had not run.

        `has_begun` takes the path of a delivery and returns whether the node has begun with it. Returns None and changes nothing
        when an item cannot be taken back: a node has begun to work on it, or on what came of it.
        """
        delivery = self._deliveries.find(path)
        fork = delivery.fork if delivery is not None else None
        if fork is None:
            return Commands()
        branches = list(fork.branches.values())
        if fork.is_taken or any(has_begun(begun) for branch in branches for begun in branch.deliveries):
            return None
        for branch in branches:
            self._drop(branch)
            for value in branch.borrowed:
                value.uses -= 1
        self._left = [(branch, node) for branch, node in self._left if branch.fork is not fork]
        self._outputs = [entry for entry in self._outputs if entry[1].fork is not fork]
        fork.branches.clear()
        fork.collected.clear()
        fork.next_index = 0
        return self._commands()

    def check(self, path: str, made: object, index: int | None = None) -> None:
        """Reject what the node at `path` does not declare: what it returned, or its item number `index`. Changes nothing.

        Raises:
            DeclarationError: as the event itself would.
        """
        delivery = self._deliveries.find(path)
        if delivery is None:
            return
        check_made(self.plan.nodes[delivery.node], made, index)

    def signalled(self, message: object) -> Commands:
        """A message came into the run from outside; it goes where an input of its type would.

        Raises:
            DeclarationError: it is none of the graph's signals.
        """
        if not isinstance(message, self.plan.signal_types):
            raise wrong_signal(self.plan, message)
        route = self.routing.route(None, message)
        if self.output is None:
            self._send(None, self._root, message, route)
            if self._root.joins:
                self._quiet.append((self._root, None))
        return self._commands()

    @property
    def awaits_signal(self) -> bool:
        """Whether nothing is at work, and a join waits that lacks only what a signal may bring."""
        if not self.plan.signal_types or self.output is not None or self._deliveries.at_work:
            return False
        return any(
            buffer.is_waiting and self._joins.may_be_signalled(branch, self.plan.nodes[node])
            for branch in self._root.open_branches()
            for node, buffer in branch.joins.items()
        )

    # --- sending ----------------------------------------------------------------------------------------------------

    def _route(self, spec: NodeSpec, value: object, *, nothing: bool, index: int | None = None) -> Route:
        """Where `value`, made by a node, goes; it may be None if `nothing`. From a list or stream it is item number `index`.

        All that can fail in an author's code or declaration happens here, before any change.
        """
        if isinstance(value, spec.outputs):
            return self.routing.route(spec.name, value)
        if value is None and nothing:
            return NOWHERE
        raise undeclared(spec, value, index)

    def _send(self, delivery: Delivery | None, branch: Branch, message: object, route: Route) -> None:
        if route.is_output and self.output is None and not branch.has_ended:
            self._put_out(delivery, branch, message)
        if route.is_conditional and not route.destinations and not route.is_output:
            lost = delivery.node if delivery is not None else None, type(message).__name__
            self._lost[lost] = self._lost.get(lost, 0) + 1
        for to in route.destinations:
            if self.output is not None or branch.has_ended:
                return
            if to.starts and not self.plan.recalled:
                self._start_alone(delivery, branch, to, message)
                continue
            value = sent(delivery, branch, to, message)
            if to.gather is not None:
                self._gather(branch, to.receiver, value, to.gather)
            elif to.starts:
                self._start(branch, to.spec, {to.receiver.parameter: value})
            elif to.held and delivery is not None and delivery.branch is branch:
                delivery.hold(to.receiver, value)
            else:
                self._arrive(branch, to.receiver, value)

    def _put_out(self, delivery: Delivery | None, branch: Branch, message: object) -> None:
        """Something of the output type was made."""
        if self._ends_when_quiet:
            rank: _Precedence = (branch.indices, 0, -1, "")
            if delivery is not None:
                rank = (branch.indices, delivery.iteration, self.plan.order[delivery.node], delivery.way)
            self._outputs.append((rank, branch, message))
        else:
            self.output = message
            self._deliveries.cancel(path for path, other in self._deliveries.at_work.items() if other is not delivery)

    def _start_alone(self, delivery: Delivery | None, branch: Branch, to: Destination, message: object) -> None:
        """Deliver a message to a node that takes no other: what most messages are, so no value is made of it first."""
        arguments = {to.receiver.parameter: message}
        if delivery is None:
            self._deliveries.begin(branch, to.spec, arguments, 0, "", 0, back=False)
        else:
            way = way_along(delivery, branch, to)
            self._deliveries.begin(branch, to.spec, arguments, delivery.iteration + to.rounds, way, delivery.depth, back=to.back)

    def _start(self, branch: Branch, spec: NodeSpec, values: Mapping[str, Value | None]) -> None:
        """Deliver what was joined or gathered."""
        present = [value for value in values.values() if value is not None]
        arguments = {entry.name: value.message if (value := values[entry.name]) is not None else None for entry in spec.inputs}
        earlier = before(present, self.plan.recalled)
        self._deliveries.begin(
            branch,
            spec,
            arguments,
            iteration=max(value.iteration for value in present),
            way="+".join(dict.fromkeys(value.way for value in present if value.way)),
            depth=max(value.depth for value in present),
            back=any(value.back for value in present),
            memory=including(earlier, present, self.plan.recalled, self.plan.order),
            recalled=recall(earlier, spec.recalls) if spec.recalls else NOTHING_RECALLED,
        )

    def _end(self, delivery: Delivery) -> None:
        """The delivery is no longer at work; pass on what it and its forerunners hold for joins."""
        if not self._deliveries.end(delivery):
            return
        branch, node = delivery.branch, delivery.node
        if node not in branch.started:
            self._leave(branch, node)
            return
        if node in self.routing.gathers_for_joins:
            self._leave(branch, node)  # what is held comes of its fan-out, which is counted separately
        self._move_up(branch, node)

    def _move_up(self, branch: Branch, node: str) -> None:
        """Pass on what is held for joins, as far as all that was started before has been made."""
        line = branch.started.get(node)
        while line and line[0].has_made_all:
            first = line.popleft()
            for receiver, value in first.held or ():
                if not branch.has_ended:
                    self._arrive(branch, receiver, value)
            if first.fork is not None or node not in self.routing.gathers_for_joins:
                self._leave(branch, node)
        if line is not None and not line:
            branch.started.pop(node, None)

    def _leave(self, branch: Branch, node: str) -> None:
        if branch.leave(node) and (branch.fork is not None or branch.joins or branch.below):
            self._quiet.append((branch, node))

    # --- joins ------------------------------------------------------------------------------------------------------

    def _arrive(self, branch: Branch, receiver: Receiver, value: Value) -> None:
        """A value for a join: let it fire here if it can, and otherwise in the branches that were waiting for the value."""
        buffer = branch.buffer(receiver.node)
        if buffer.is_empty:
            branch.wait(receiver.node)
        buffer.queues.setdefault(receiver.parameter, deque()).append(value)
        spec = self.plan.nodes[receiver.node]
        if self._fire(branch, spec):
            return
        inside = sorted(branch.below.get(spec.name, ()), key=lambda inner: inner.indices)
        for inner in inside:
            while self._fire(inner, spec):
                pass
        if any(entry.optional for entry in spec.inputs):
            self._quiet.extend((waiting, None) for waiting in (branch, *inside))

    def _fire(self, branch: Branch, spec: NodeSpec, *, without: frozenset[str] = frozenset()) -> bool:
        """Start the join in `branch` if every parameter has a value here or further out, except for those in `without`."""
        buffer = branch.joins.get(spec.name)
        if buffer is None or buffer.is_empty:
            return False
        found: dict[str, Value | None] = {}
        for entry in spec.inputs:
            found[entry.name] = self._joins.available(branch, spec, entry)
            if found[entry.name] is None and entry.name not in without:
                return False
        if branch.fork is not None:
            branch.borrow([value for name, value in found.items() if value is not None and not buffer.queues.get(name)])
        for name, queue in buffer.queues.items():
            if queue:
                queue.popleft()
                buffer.taken[name] = buffer.taken.get(name, 0) + 1
        for value in found.values():
            if value is not None:
                value.uses += 1
        if not any(buffer.queues.values()):
            branch.wait_no_more(spec.name)
        self._start(branch, spec, found)
        return True

    # --- fan-outs ---------------------------------------------------------------------------------------------------

    def _open_branch(self, fork: Fork, item: object, route: Route) -> None:
        index = fork.next_index
        fork.next_index += 1
        if fork.has_ended or self.output is not None:
            return
        branch = Branch(f"{fork.delivery.path}/{index}", fork, (*fork.delivery.branch.indices, index))
        fork.branches[index] = branch
        self._send(fork.delivery, branch, item, route)
        if branch.joins or not branch.own:
            self._quiet.append((branch, None))

    def _close_fork(self, fork: Fork) -> None:
        """No more items will come."""
        fork.is_open = False
        if not fork.next_index and fork.node not in self.plan.gathers:
            self._empty[fork.node] = self._empty.get(fork.node, 0) + 1
        if not fork.branches:
            self._end_fork(fork)

    def _gather(self, branch: Branch, receiver: Receiver, value: Value, gather: Gather) -> None:
        fork = branch.fork
        if fork is None:
            raise DeclarationError(
                f"{receiver.node!r} gathers {receiver.parameter!r}, but {value.source!r} made a {type(value.message).__name__} "
                "outside of any fan-out.\n  Fix: let a node return list[…] on the way there."
            )
        if fork.fired and receiver in fork.fired:
            return
        collected = fork.collected.setdefault(receiver, [])
        collected.append((branch.indices[-1], value))
        if len(collected) == gather.first:
            self._fire_gather(fork, receiver)
            self._cancel_fork(fork)

    def _fire_gather(self, fork: Fork, receiver: Receiver) -> None:
        fork.fired.add(receiver)
        collected = fork.collected.pop(receiver, [])
        value, delivery = gathered(self.plan, fork, receiver, collected), fork.delivery
        spec = self.plan.nodes[receiver.node]
        if not spec.is_join:
            self._start(delivery.branch, spec, {receiver.parameter: value})
        elif fork.has_ended:
            delivery.hold(receiver, value)
        else:
            self._arrive(delivery.branch, receiver, value)  # the first so many are not waited for, nor do they wait

    def _end_fork(self, fork: Fork) -> None:
        if fork.has_ended:
            return
        fork.has_ended = True
        branch = fork.delivery.branch
        if self.output is None and not branch.has_ended:
            for receiver in self.plan.gathers.get(fork.node, ()):
                if receiver not in fork.fired:
                    self._fire_gather(fork, receiver)
        branch.forks.pop(fork.delivery.path, None)
        if fork.node in self.routing.gathers_for_joins:
            self._move_up(branch, fork.node)
        else:
            branch.leave(fork.node)
        self._quiet.append((branch, fork.node))

    def _end_branch(self, branch: Branch) -> None:
        """The branch has ended: remember the joins that it leaves waiting."""
        branch.has_ended = True
        for node, buffer in branch.joins.items():
            if buffer.is_waiting:
                self._left.append((branch, node))
            branch.wait_no_more(node)
        fork = branch.fork
        assert fork is not None, "the run itself does not end as a branch"
        fork.branches.pop(branch.indices[-1], None)
        if not fork.is_open and not fork.branches:
            self._end_fork(fork)

    # --- cancelling -------------------------------------------------------------------------------------------------

    def _cancel_fork(self, fork: Fork) -> None:
        """End a fork before its branches have."""
        stack = [fork]
        while stack:
            for branch in stack.pop().branches.values():
                self._drop(branch)
                stack.extend(branch.forks.values())
        fork.branches.clear()
        producer = fork.delivery
        if fork.is_open and producer.path in self._deliveries.at_work and self.plan.nodes[producer.node].fan_out is Many.STREAM:
            self._deliveries.cancel(iter((producer.path,)))
            producer.is_done = True
            self._leave(producer.branch, producer.node)
        fork.is_open = False
        self._end_fork(fork)

    def _drop(self, branch: Branch) -> None:
        """End a branch before its time; what comes of it is no longer wanted."""
        branch.has_ended = True
        for node in branch.joins:
            branch.wait_no_more(node)
        self._deliveries.cancel(iter(branch.deliveries))

    # --- coming to rest ---------------------------------------------------------------------------------------------

    def _commands(self) -> Commands:
        """Settle what the event left quiet, and hand over what was decided since the last event."""
        self._settle()
        while not self._deliveries.at_work and self.output is None and not self.awaits_signal and self._break_standstill():
            self._settle()
        if self._outputs and self.output is None and not self._deliveries.at_work:
            self.output = min(self._outputs, key=lambda entry: entry[0])[2]
        return self._deliveries.hand_over()

    def _settle(self) -> None:
        while self._quiet and self.output is None:
            quiet, self._quiet = self._quiet, []
            for branch, node in quiet:
                if not branch.has_ended:
                    self._settle_around(branch, node)

    def _settle_around(self, branch: Branch, node: str | None) -> None:
        self._settle_branch(branch)
        for join in list(branch.below) if node is not None else ():
            receivers = [Receiver(join, entry.name) for entry in self.plan.nodes[join].inputs]
            if any(self.plan.reaches_on_level(node or "", receiver) for receiver in receivers):
                for inner in sorted(branch.below.get(join, ()), key=lambda inner: inner.indices):
                    self._settle_branch(inner)

    def _settle_branch(self, branch: Branch) -> None:
        """Fire joins whose missing values are optional and can no longer come; end a branch in which nothing can happen."""
        while branch.joins and not branch.has_ended and self._fire_without(branch):
            pass
        if branch.has_ended or branch.own or branch.fork is None:
            return
        waiting = [self.plan.nodes[node] for node, buffer in branch.joins.items() if buffer.is_waiting]
        if not any(self._joins.may_complete(branch, spec) for spec in waiting):
            self._end_branch(branch)

    def _fire_without(self, branch: Branch, *, force: bool = False) -> bool:
        found = self._joins.ready_without(branch, force=force)
        return found is not None and self._fire(branch, found[0], without=frozenset(entry.name for entry in found[1]))

    def _break_standstill(self) -> bool:
        """Nothing is at work, yet branches wait for what only other waiting branches could bring about: let one go.

        Joins with optional inputs first, from the outside in; then the innermost fan-out ends. Returns whether anything changed.
        """
        branches = list(self._root.open_branches())
        for branch in branches:
            if self._fire_without(branch, force=True):
                return True
        forks = [fork for branch in branches for _, fork in sorted(branch.forks.items())]
        if not forks:
            return False
        deepest = max(forks, key=lambda fork: len(fork.delivery.branch.indices))
        deepest.is_open = False
        for branch in list(deepest.branches.values()):
            self._end_branch(branch)
        self._end_fork(deepest)
        return True

    # --- the end without output -------------------------------------------------------------------------------------

    def no_output(self) -> str:
        """Why the run came to rest without output: the joins left waiting, and what never came to them."""
        waiting = [(self._root, node) for node, buffer in self._root.joins.items() if buffer.is_waiting]
        left: dict[str, list[frozenset[str]]] = {}
        for branch, node in (*waiting, *self._left):
            missing = self._joins.missing(branch, self.plan.nodes[node])
            left.setdefault(node, []).append(frozenset(entry.name for entry in missing))
        return no_output(self.plan, self.steps, left, self._lost, self._empty)
