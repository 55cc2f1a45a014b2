"""Real processes under load: kill -9 and SIGSTOP of each at random moments, and cuts between network namespaces. Nothing may be
lost, nothing duplicated, no slot owned twice; the time to recover is printed.

CHAOS_MOMENTS (20) faults of each kind, drawn from CHAOS_SEED (1), of the engines CHAOS_ENGINES (mock,native)."""

import os
import random
import signal
import statistics
import time

import pytest

from hosts import GATEWAYS, MANAGERS, Site, why_not_isolated
from judged_load import Load, OwnersWatch

MOMENTS = int(os.environ.get("CHAOS_MOMENTS", "20"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
ENGINES = os.environ.get("CHAOS_ENGINES", "mock,native").split(",")
TARGETS = GATEWAYS + MANAGERS + tuple(f"worker of {m}" for m in MANAGERS)


def kill(site, target):
    if target.startswith("worker of "):
        pid = site.worker_pid(target.removeprefix("worker of "))
        if pid:
            os.kill(pid, signal.SIGKILL)
        return
    site.hosts[target].kill()
    site.hosts[target].start()


def stop(site, target, seconds):
    pid = site.worker_pid(target.removeprefix("worker of ")) if target.startswith("worker of ") else site.hosts[target].pid()
    if not pid:
        return
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:  # its manager has killed it meanwhile (L6)
        pass


def suffer(capsys, title, fault, engine="mock", isolated=False):
    """Load on the site, and `fault(site, rng)` at random moments; then the judgement."""
    rng = random.Random(f"{SEED} {title}")
    recoveries = []
    with Site(isolated, engine) as site:
        with OwnersWatch(site, MANAGERS) as watch, Load(site, seed=SEED) as load:
            load.probe()
            for _ in range(MOMENTS):
                time.sleep(rng.uniform(0.1, 1.5))
                fault(site, rng)
                recoveries.append(load.probe())
        compared = load.compare() if engine == "native" else 0
    with capsys.disabled():
        print(f"\n{title}: {len(recoveries)} faults, {load.summary()}; {len(watch.faults)} double owners in {watch.looks} looks; "
              f"recovery median {statistics.median(recoveries):.2f} s, longest {max(recoveries):.2f} s"
              + (f"; {compared} answers had the bytes of a quiet run" if compared else ""))
    assert not load.faults, load.faults[:5]
    assert not watch.faults, watch.faults[:5]
    assert load.tasks, "no load"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("target", TARGETS)
def test_OC_CHAOS_1001_kill_9_at_random_moments_loses_and_duplicates_nothing(target, engine, capsys):
    suffer(capsys, f"SIGKILL {target}, {engine}", lambda site, rng: kill(site, target), engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("target", TARGETS)
def test_OC_CHAOS_1001_sigstop_at_random_moments_loses_and_duplicates_nothing(target, engine, capsys):
    # The longest outlasts a lease.
    suffer(capsys, f"SIGSTOP {target}, {engine}", lambda site, rng: stop(site, target, rng.choice([0.2, 1.0, 4.5])), engine)


def cut(site, rng):
    ways = rng.choice([("out", "in"), ("out",), ("in",)])
    pairs = [(g, m) for g in GATEWAYS for m in MANAGERS]
    for gateway, manager in rng.sample(pairs, rng.choice([1, 1, 2, 4])):
        site.cut(gateway, manager, ways)
    time.sleep(rng.choice([0.3, 2.0, 6.0]))
    site.mend()


@pytest.mark.parametrize("engine", ENGINES)
def test_OC_CHAOS_1001_partitions_between_namespaces_lose_and_duplicate_nothing(engine, capsys):
    reason = why_not_isolated()
    if reason:
        pytest.skip(reason)
    suffer(capsys, f"partition, {engine}", cut, engine, isolated=True)
