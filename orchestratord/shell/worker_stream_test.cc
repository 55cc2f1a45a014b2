// The gateway's side of a stream to a worker, without gRPC.
#include "orchestratord/shell/worker_stream.h"

#include <gtest/gtest.h>

namespace orch::gateway {
namespace {

DispatchId id(std::uint64_t job, std::uint32_t attempt = 1) {
  return {.job = {Uuid{.hi = 1, .lo = job}}, .attempt = attempt};
}

Dispatch dispatch(std::uint64_t job, std::size_t prompt_bytes = 5) {
  auto payload = std::make_shared<JobPayload>();
  payload->prompt.text = std::string(prompt_bytes, 'x');
  Dispatch out;
  out.dispatch = id(job);
  out.endpoint = "unix:/nowhere";
  out.fence.inc = {1, job};
  out.payload = std::move(payload);
  out.max_tokens = 4;
  out.lease_slots = 2;
  return out;
}

v1::JobEvent* event(v1::ServeReply& reply, std::uint64_t number) {
  v1::JobEvent* out = reply.add_events();
  out->set_number(number);
  return out;
}

TEST(WorkerStream, OC_WORKER_1001_one_turn_leaves_as_one_message_and_the_first_names_the_holder) {
  WorkerStream stream(Holder{.orch = {Uuid{.hi = 2, .lo = 3}}, .boot = 4});
  EXPECT_FALSE(stream.take_request().has_value());
  stream.dispatch(dispatch(1));
  stream.dispatch(dispatch(2));
  stream.cancel(id(1));
  stream.beat(9);
  const auto request = stream.take_request();
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(request->holder().orch_boot(), 4u);
  EXPECT_EQ(request->beat(), 9u);
  ASSERT_EQ(request->dispatches_size(), 2);
  EXPECT_EQ(request->dispatches(0).number(), 1u);
  EXPECT_EQ(request->dispatches(1).number(), 2u);
  EXPECT_EQ(request->dispatches(1).job_id(), id(2).job.to_string());
  EXPECT_EQ(request->dispatches(1).lease_slots(), 2u);
  ASSERT_EQ(request->cancels_size(), 1);
  EXPECT_EQ(request->cancels(0), 1u);
  EXPECT_FALSE(stream.take_request().has_value());
  stream.beat(10);
  EXPECT_FALSE(stream.take_request()->has_holder());
}

TEST(WorkerStream, OC_WORKER_1003_messages_that_wait_become_one_in_their_order) {
  WorkerStream stream(Holder{});
  stream.dispatch(dispatch(1));
  stream.beat(1);
  auto waiting = stream.take_request();
  stream.dispatch(dispatch(2));
  stream.cancel(id(1));
  stream.cancel(id(2));
  stream.beat(2);
  auto more = stream.take_request();
  ASSERT_TRUE(WorkerStream::merge(*waiting, *more));
  ASSERT_EQ(waiting->dispatches_size(), 2);
  EXPECT_EQ(waiting->dispatches(0).number(), 1u);
  EXPECT_EQ(waiting->dispatches(1).number(), 2u);
  EXPECT_EQ(waiting->cancels_size(), 2);
  EXPECT_EQ(waiting->beat(), 2u);
  EXPECT_TRUE(waiting->has_holder());
  // Large ones stay apart: a message has a limit.
  stream.dispatch(dispatch(3, WorkerStream::kRequestBytesEnough));
  EXPECT_TRUE(stream.enough());
  auto large = stream.take_request();
  EXPECT_FALSE(stream.enough());
  EXPECT_FALSE(WorkerStream::merge(*waiting, *large));
  EXPECT_EQ(waiting->dispatches_size(), 2);
}

TEST(WorkerStream, OC_WORKER_1003_events_come_in_order_under_the_fence_of_their_dispatch) {
  WorkerStream stream(Holder{});
  stream.dispatch(dispatch(1));
  stream.dispatch(dispatch(2));
  v1::ServeReply reply;
  event(reply, 2)->mutable_started()->set_prompt_tokens(3);
  event(reply, 1)->mutable_tokens()->set_text("one");
  event(reply, 2)->mutable_finished()->mutable_usage()->set_completion_tokens(7);
  std::vector<Event> events;
  ASSERT_TRUE(stream.take(std::move(reply), events).ok());
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(std::get<DispatchStarted>(events[0]).dispatch, id(2));
  EXPECT_EQ(std::get<DispatchStarted>(events[0]).fence.inc, (Incarnation{1, 2}));
  EXPECT_EQ(std::get<DispatchTokens>(events[1]).dispatch, id(1));
  EXPECT_EQ(std::get<DispatchTokens>(events[1]).text, "one");
  EXPECT_EQ(std::get<DispatchTokens>(events[1]).fence.inc, (Incarnation{1, 1}));
  EXPECT_EQ(std::get<DispatchFinished>(events[2]).completion_tokens, 7u);
  // The terminal and the cancel have crossed: nothing is sent.
  static_cast<void>(stream.take_request());
  stream.cancel(id(2));
  EXPECT_FALSE(stream.take_request().has_value());
  EXPECT_EQ(stream.take_open(), std::vector<DispatchId>{id(1)});
  EXPECT_TRUE(stream.take_open().empty());
}

TEST(WorkerStream, OC_WORKER_1004_an_event_of_no_open_number_or_no_kind_breaks_the_stream) {
  const auto told = [](auto say) {
    WorkerStream stream(Holder{});
    stream.dispatch(dispatch(1));
    stream.dispatch(dispatch(2));
    v1::ServeReply ends;
    event(ends, 2)->mutable_failure()->set_code("CANCELED");
    std::vector<Event> events;
    EXPECT_TRUE(stream.take(std::move(ends), events).ok());
    v1::ServeReply reply;
    event(reply, 1)->mutable_tokens()->set_text("before");
    say(reply);
    const bool ok = stream.take(std::move(reply), events).ok();
    EXPECT_EQ(events.size(), ok ? 3u : 2u);  // what came before counts
    return ok;
  };
  EXPECT_TRUE(told([](v1::ServeReply& reply) { event(reply, 1)->mutable_tokens()->set_text("more"); }));
  EXPECT_FALSE(told([](v1::ServeReply& reply) { event(reply, 1); }));
  EXPECT_FALSE(told([](v1::ServeReply& reply) { event(reply, 0)->mutable_started(); }));
  EXPECT_FALSE(told([](v1::ServeReply& reply) { event(reply, 3)->mutable_started(); }));
  EXPECT_FALSE(told([](v1::ServeReply& reply) { event(reply, 2)->mutable_tokens()->set_text("behind its end"); }));
}

TEST(WorkerStream, OC_WORKER_1004_a_worker_that_ends_no_jobs_fills_no_table_without_limit) {
  WorkerStream stream(Holder{});
  for (std::uint64_t job = 1; job <= WorkerStream::kOpenMax; ++job) stream.dispatch(dispatch(job));
  EXPECT_FALSE(stream.overfull());
  stream.dispatch(dispatch(WorkerStream::kOpenMax + 1));
  stream.cancel(id(1));  // a cancel alone ends nothing
  EXPECT_TRUE(stream.overfull());
  v1::ServeReply reply;
  event(reply, 1)->mutable_failure()->set_code("CANCELED");
  std::vector<Event> events;
  ASSERT_TRUE(stream.take(std::move(reply), events).ok());
  EXPECT_FALSE(stream.overfull());
}

}  // namespace
}  // namespace orch::gateway
