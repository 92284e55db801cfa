"""Runs of graphs: the pure reducer of one run, and the engine that performs what it decides with actors.

Begin at ``run.py``, which carries out what ``reducer/state.py`` decides. By what is looked for:

- a graph is deployed, a run begins: ``engine.py``, ``deployed_graphs.py``, ``deployment.py``, ``active_runs.py``, ``turns.py``;
- one message at one node: ``delivery.py``, ``injected.py``, ``dependencies.py``, ``pulse.py`` (its time), ``node_calls.py``
  (its calls of models);
- how a run ends, and who waits for it: ``run_life.py``, ``ending.py``, ``run_waits.py``, ``handle.py``;
- what a run shows: ``run_record.py``, ``run_events.py``;
- durable runs: ``journaling.py`` (what is written), ``accepting.py`` (how one begins), ``taking_up.py`` and ``resuming.py``
  (how one goes on), ``adopting.py`` (in a changed graph), ``once.py`` and ``uncertain.py`` (what may happen once only);
- people: ``questions.py``, ``asking.py``, ``humans.py``, ``posting.py``; conversations: ``conversations.py``, ``open_talks.py``;
- tools of agents: ``tooling.py``, ``calling.py``, ``approvals.py``; schedules: ``schedules.py``.
"""
