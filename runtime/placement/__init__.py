"""Run nodes and actors in other processes: the places of a runtime, and what they are made of. See ``open_runtime(places=…)``."""

from runtime.core.host_events import HostEvent as HostEvent
from runtime.core.host_events import HostLost as HostLost
from runtime.core.host_events import HostStarted as HostStarted
from runtime.placement.places import Gone as Gone
from runtime.placement.places import Here as Here
from runtime.placement.places import Invitation as Invitation
from runtime.placement.places import Place as Place
from runtime.placement.places import StartedHost as StartedHost
from runtime.placement.processes import Processes as Processes
