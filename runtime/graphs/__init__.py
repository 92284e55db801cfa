"""Runs of graphs: what starts, holds, stores and ends them. What a run is made of lies in the rooms inside.

Begin at ``engine.py``. By what is looked for:

- what a run decides: ``reducer/``; what it leaves behind, and how a stored one is read: ``records/``;
- a run at work, how it ends, and who waits for it: ``runs/``; one message at one node: ``nodes/``;
- a graph is deployed, a run begins: ``deployed_graphs.py``, ``deployment.py``, ``accepting.py``, ``active_runs.py``;
- a stored run goes on: ``taking_up.py``, ``reopening.py``, in a changed graph ``adopting.py`` and ``forking.py``; what may
  happen once only: ``uncertain.py``;
- what callers hold and ask: ``handle.py``, ``outside.py``, ``stored.py``; answers of people: ``posting.py``;
- runs that begin by the clock: ``schedules.py``; talks of several turns: ``conversations/``.
"""
