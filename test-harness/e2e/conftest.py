"""One cluster for all tests that leave it as they found it; tests that break things start their own."""

import pytest

from orch_cluster import Cluster, native_pool


@pytest.fixture(scope="session")
def cluster():
    with Cluster([native_pool()], {"http": {"hosts": ["gateway.example"]}}, {"http": {"hosts": ["manager.example"]}}) as running:
        yield running.wait_ready()
