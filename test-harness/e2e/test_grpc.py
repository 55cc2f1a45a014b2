"""The gRPC Orchestrator service, with stubs generated from proto/ at test time."""

import importlib
import sys
import uuid

import grpc
import pytest
from grpc_tools import protoc

from orch_cluster import MODEL_NAME, ROOT


@pytest.fixture(scope="module")
def stub(cluster, tmp_path_factory):
    out = tmp_path_factory.mktemp("stubs")
    files = [str(p) for p in (ROOT / "proto/orch/v1").glob("*.proto")]
    assert protoc.main(["protoc", f"-I{ROOT}/proto", f"--python_out={out}", f"--grpc_python_out={out}", *files]) == 0
    sys.path.insert(0, str(out))
    messages = importlib.import_module("orch.v1.orchestrator_pb2")
    common = importlib.import_module("orch.v1.common_pb2")
    service = importlib.import_module("orch.v1.orchestrator_pb2_grpc")
    with grpc.insecure_channel(cluster.grpc) as channel:
        yield service.OrchestratorStub(channel), messages, common


def submit_request(messages, common, **changes):
    fields = {"task_id": str(uuid.uuid4()), "model_ref": MODEL_NAME, "max_tokens": 8, "prompt": common.Prompt(text="The sky is"),
              "sampling": common.Sampling(temperature=0, top_p=1), **changes}
    return messages.SubmitRequest(**fields)


def test_submit_stream_end(stub):
    calls, messages, common = stub
    wanted = submit_request(messages, common)
    assert calls.Submit(wanted).task_id == wanted.task_id
    events = list(calls.Stream(messages.StreamRequest(task_id=wanted.task_id)))
    kinds = [e.WhichOneof("kind") for e in events if e.WhichOneof("kind") != "metrics"]
    assert kinds[0] == "started" and kinds[-1] == "end" and set(kinds[1:-1]) == {"token"}
    assert events[-1].end.tokens_out == 8


def test_ORCH_1101_the_end_names_what_served_it(stub):
    calls, messages, common = stub
    wanted = submit_request(messages, common)
    calls.Submit(wanted)
    for _ in range(2):  # live, then replayed
        end = list(calls.Stream(messages.StreamRequest(task_id=wanted.task_id)))[-1].end
        assert (end.accelerator, end.numeric_class) == ("cpu", "X"), end


def test_cancel_and_unknown(stub):
    calls, messages, common = stub
    wanted = submit_request(messages, common, max_tokens=1000)
    calls.Submit(wanted)
    calls.Cancel(messages.CancelRequest(task_id=wanted.task_id))
    events = list(calls.Stream(messages.StreamRequest(task_id=wanted.task_id)))
    assert events[-1].error.code == "CANCELED"
    with pytest.raises(grpc.RpcError) as caught:
        calls.Cancel(messages.CancelRequest(task_id=str(uuid.uuid4())))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("changes,field", [({"task_id": "x"}, "task_id"), ({"max_tokens": 0}, "max_tokens"), ({"priority": "urgent"}, "priority")])
def test_bad_input_names_the_field(stub, changes, field):
    calls, messages, common = stub
    with pytest.raises(grpc.RpcError) as caught:
        calls.Submit(submit_request(messages, common, **changes))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert field in caught.value.details()


def test_J5_an_idempotency_key_in_the_metadata_names_the_task(stub):
    calls, messages, common = stub
    key = (("idempotency-key", str(uuid.uuid4())),)
    wanted = submit_request(messages, common)
    first = calls.Submit(wanted, metadata=key)
    assert not first.repeated
    again = calls.Submit(wanted, metadata=key)
    assert again.repeated and again.task_id == wanted.task_id
    with pytest.raises(grpc.RpcError) as other_body:
        calls.Submit(submit_request(messages, common), metadata=key)
    assert other_body.value.code() == grpc.StatusCode.ALREADY_EXISTS and other_body.value.details().startswith("CONFLICT")
    with pytest.raises(grpc.RpcError) as bad_key:
        calls.Submit(submit_request(messages, common), metadata=(("idempotency-key", "with space"),))
    assert bad_key.value.code() == grpc.StatusCode.INVALID_ARGUMENT and "Idempotency-Key" in bad_key.value.details()


def test_OC_CORE_1015_a_wish_for_a_replica_that_does_not_exist_is_refused(stub):
    calls, messages, common = stub
    with pytest.raises(grpc.RpcError) as refused:
        calls.Submit(submit_request(messages, common, placement=messages.PlacementWish(pin="nowhere")))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT and "placement.pin" in refused.value.details()
    wanted = submit_request(messages, common, placement=messages.PlacementWish(pin="default"))
    assert calls.Submit(wanted).task_id == wanted.task_id
    assert list(calls.Stream(messages.StreamRequest(task_id=wanted.task_id)))[-1].WhichOneof("kind") == "end"


def test_ORCH_3021_a_reply_says_what_the_session_has_left(stub):
    calls, messages, common = stub
    reply = calls.Submit(submit_request(messages, common, session_id=str(uuid.uuid4())))
    assert reply.budget.turns == 7 and not reply.budget.HasField("tokens")
