"""The provider states of the pact, reached by what any client can do: posting tasks and waiting for them.

The product knows nothing of them. What the cluster must look like is in README.md.
"""

import contextlib
import uuid

from orch_queue import OrchQueue, OrchQueueError

MODEL = "smollm2-135m-instruct"
UNREADY_MODEL = "cdc-unready"
NEW_TASK = "6a1d0c1e-52ba-4b7e-9b39-2f6f3f1c7f10"
STREAM_TASK = "6a1d0c1e-52ba-4b7e-9b39-2f6f3f1c7f11"
CANCEL_TASK = "6a1d0c1e-52ba-4b7e-9b39-2f6f3f1c7f12"
UNKNOWN_TASK = "6a1d0c1e-52ba-4b7e-9b39-2f6f3f1c7f13"
REFUSED_TASK = "6a1d0c1e-52ba-4b7e-9b39-2f6f3f1c7f14"
UNREADY_TASK = "6a1d0c1e-52ba-4b7e-9b39-2f6f3f1c7f15"

HAS_ROOM = "the model is served and the queue has room"
POSTED = "the stream's task was posted with four tokens to go"
WAITING = "the task to cancel is waiting or running"
NO_SUCH_TASK = "no such task was ever posted"
FULL = "the queue is full"
UNREADY = "the pool of the model exists and no replica of it was ever ready"

FILL_TOKENS = 1500
FILL_MAX = 2000


def task(task_id, max_tokens, **changes):
    return {"task_id": task_id, "model_ref": MODEL, "prompt": "Once upon a time", "max_tokens": max_tokens, "seed": 7, **changes}


class States:
    def __init__(self, base_url):
        self.client = OrchQueue(base_url)
        self._filling = []

    def handle(self, state, action, _parameters=None):
        if action == "teardown":
            return self._drop_load()
        setup = {
            HAS_ROOM: lambda: None,
            POSTED: lambda: self.client.submit(task(STREAM_TASK, 4)),
            WAITING: lambda: self.client.submit(task(CANCEL_TASK, 256)),
            NO_SUCH_TASK: lambda: None,
            FULL: self._fill,
            UNREADY: lambda: None,
            "": lambda: None,
        }
        return setup[state]()

    def _fill(self):
        """The only slot is taken and the queue full. What an earlier check left behind may hold the slot at first, and its end makes
        room: so once more when the first of ours runs."""
        self._post_until_refused()
        with contextlib.closing(self.client.stream(self._filling[0])) as events:
            next(event for event in events if event.name == "token")
        self._post_until_refused()

    def _post_until_refused(self):
        """Detached tasks, long enough to outlast the check."""
        for _ in range(FILL_MAX):
            task_id = str(uuid.uuid4())
            try:
                self.client.submit(task(task_id, FILL_TOKENS, detached=True))
            except OrchQueueError as error:
                if error.status == 429:
                    return
                raise
            self._filling.append(task_id)
        raise RuntimeError(f"the queue took {FILL_MAX} tasks; the cluster's queue.capacity is too large for this check")

    def _drop_load(self):
        for task_id in self._filling:
            self.client.cancel(task_id)
        self._filling.clear()
