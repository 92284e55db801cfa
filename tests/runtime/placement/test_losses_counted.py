"""One host that is lost is one restart for each supervisor above what lived there, however much that was."""

from __future__ import annotations

import trio

from actors import Actor, ActorRef, Backoff, ChildSpec, HostLost, Supervision
from runtime import open_runtime

QUICK = Backoff(first_s=0.01, jitter=0)


class Away(Actor):
    """Fails as what lives on a host does when that is lost."""

    async def receive(self, message: HostLost) -> None:
        raise message


def loss(incarnation: int) -> HostLost:
    return HostLost("lost", place="cpu", host="host-1", incarnation=incarnation)


async def test_five_children_on_one_lost_host_spend_one_restart(virtual_clock):
    async with open_runtime() as runtime:
        children = [ChildSpec(f"a{number}", Away) for number in range(5)]
        above = await runtime.supervise(children, Supervision(max_restarts=2, within_s=60, backoff=QUICK), name="s")

        for incarnation in (1, 2):
            for child in await above.which_children():
                assert isinstance(child.ref, ActorRef)
                await child.ref.tell(loss(incarnation))
            await trio.sleep(1)

        assert (await above.count_children()).active == 5
        assert runtime.whereis("s") is not None


async def test_losses_of_different_hosts_count_each(virtual_clock):
    async with open_runtime(supervision=Supervision(max_restarts=10, backoff=QUICK)) as runtime:
        supervision = Supervision(max_restarts=2, within_s=60, backoff=QUICK)
        above = await runtime.supervise([ChildSpec(f"a{n}", Away) for n in range(3)], supervision, name="s")
        refs = [child.ref for child in await above.which_children() if isinstance(child.ref, ActorRef)]

        for incarnation, ref in enumerate(refs, 1):
            await ref.tell(loss(incarnation))
        await trio.sleep(1)

        found = next(each for each in runtime.tree().children if each.address == "s")
        assert found.incarnation == 2  # its budget was spent, so it failed, and was restarted itself
