"""Run nodes and actors in other processes: the places of a runtime, and what they are made of. See ``open_runtime(places=…)``.

Begin at ``placement.py`` (the places of a runtime) and ``placed_nodes.py`` (a call that goes there); ``hosts.py`` supervises the
hosts, ``link.py`` and ``protocol.py`` are the connection to one. Their side of it is in ``host``; those on other
machines are in ``ray``.
"""

from runtime.core.host_events import HostEvent as HostEvent
from runtime.core.host_events import HostLost as HostLost
from runtime.core.host_events import HostPending as HostPending
from runtime.core.host_events import HostStarted as HostStarted
from runtime.placement.places import Gone as Gone
from runtime.placement.places import Here as Here
from runtime.placement.places import HostTerms as HostTerms
from runtime.placement.places import Invitation as Invitation
from runtime.placement.places import OpenedPlace as OpenedPlace
from runtime.placement.places import Place as Place
from runtime.placement.places import SharedPlace as SharedPlace
from runtime.placement.places import StartedHost as StartedHost
from runtime.placement.places import StartsHosts as StartsHosts
from runtime.placement.processes import Processes as Processes
from runtime.placement.sharded import Sharded as Sharded
