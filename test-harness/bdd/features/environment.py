"""Starts clusters for scenarios and ends them. The default cluster is shared until a scenario changed its processes."""

import contextlib

from orch_cluster import Cluster, mock_pool, native_pool


def before_all(context):
    context.shared = contextlib.ExitStack()
    context.default_cluster = None

    def default_cluster():
        if context.default_cluster is None:
            context.default_cluster = context.shared.enter_context(Cluster([native_pool()])).wait_ready()
        return context.default_cluster

    def mock_cluster(script_file, waiting):
        gateway = {"queue": {"capacity": waiting}, "drain_deadline_ms": 100}
        return context.scenario_stack.enter_context(Cluster([mock_pool(mock_script=str(script_file))], orchestratord=gateway)).wait_ready()
    context.start_default_cluster, context.start_mock_cluster = default_cluster, mock_cluster


def before_scenario(context, _scenario):
    context.scenario_stack = contextlib.ExitStack()
    context.changed_processes = False
    context.tasks, context.events = [], []


def after_scenario(context, _scenario):
    context.scenario_stack.close()
    if context.changed_processes:
        context.shared.close()
        context.default_cluster = None


def after_all(context):
    context.shared.close()
