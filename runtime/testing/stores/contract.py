"""What every store must do, as a class of tests: subclass :class:`StoreContract`, and give it a fixture ``make_store``.

::

    class TestMyStore(StoreContract):
        @pytest.fixture
        def make_store(self, tmp_path):
            return lambda: MyStore(tmp_path / "runs")

Each call returns a store that isn't open yet, and all of one test's stores hold the same data: the second is what another
process, or the same one after a restart, sees. The tests are coroutines; run them with pytest-trio (``trio_mode``, or
``@pytest.mark.trio`` on the class).
"""

from __future__ import annotations

from runtime.testing.stores.contract_allowances import AllowanceContract
from runtime.testing.stores.contract_ends import EndContract
from runtime.testing.stores.contract_journals import JournalContract
from runtime.testing.stores.contract_meeting import MeetingContract
from runtime.testing.stores.contract_outside import OutsideContract
from runtime.testing.stores.contract_owners import OwnerContract
from runtime.testing.stores.contract_runs import RunContract


class StoreContract(
    JournalContract, RunContract, OwnerContract, OutsideContract, EndContract, AllowanceContract, MeetingContract
):
    """The tests. A store that passes them can keep the journals of any graph, and counts right what its owners share."""
