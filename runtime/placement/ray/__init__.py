"""Hosts on other machines: Ray places, starts and ends them, and our own stream carries. For the extra ``ray``.

Begin at ``cluster.py``. ``launching.py`` speaks with the child process ``launcher.py``, the only file that imports Ray; what that
has started dials in at ``reception.py``, and is a host of ``dialled_hosts.py``.
"""

from runtime.placement.ray.cluster import RayHosts as RayHosts
