"""Given: which processes run. When: what befalls them."""

import json
import os
import pathlib
import signal
import tempfile

from behave import given, then, when

from orch_cluster import wait_until


@given("a cluster with the default model on the CPU")
def default_model(context):
    context.cluster = context.start_default_cluster()
    context.model = None
    context.tokens_before = context.cluster.metric_sum("tokens_out_total")


@given("a cluster with a slow engine called mock and room for {waiting:d} waiting tasks")
def slow_mock(context, waiting):
    folder = context.scenario_stack.enter_context(tempfile.TemporaryDirectory())
    script = pathlib.Path(folder) / "script.json"
    script.write_text(json.dumps({"text": "slow " * 2000, "token_delay_ms": 1000}))
    context.cluster = context.start_mock_cluster(script, waiting)
    context.model = "mock-model"


@when("the worker is killed")
def kill_worker(context):
    context.changed_processes = True
    os.kill(context.cluster.ready_replica()["pid"], signal.SIGKILL)


@when('"{name}" is killed and started again')
def kill_and_start(context, name):
    context.changed_processes = True
    context.worker_before = context.cluster.ready_replica()["pid"]
    context.cluster.kill(name).wait()
    context.cluster.start_manager()


@when('"{name}" is asked to end')
def ask_to_end(context, name):
    context.changed_processes = True
    context.cluster.kill(name, signal.SIGTERM)


@then("no slot is in use soon after")
def no_slot_in_use(context):
    wait_until(lambda: all(r["running"] == 0 for r in context.cluster.replicas()), 10, "every slot is free")


@then("the worker is the one from before")
def same_worker(context):
    replica = wait_until(context.cluster.ready_replica, 20, "the worker is known again")
    assert replica["pid"] == context.worker_before, (replica, context.worker_before)


@then('"{name}" has ended with status {status:d}')
def ended_with(context, name, status):
    assert context.cluster.processes[name].wait(20) == status
