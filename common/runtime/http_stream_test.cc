// Streamed answers over real sockets: cadence, coalescing, heartbeats, disconnects, bounds.
#include <algorithm>
#include <chrono>

#include "common/runtime/http_fixture.h"
#include "common/runtime/sse_writer.h"

namespace orch::runtime {
namespace {

class HttpStream : public HttpServerFixture {
 protected:
  // Serves one stream and gives its exchange to the test.
  HttpExchangePtr open_stream(RawClient& client, std::promise<HttpExchangePtr>& arrived) {
    client.send(get("/stream"));
    return arrived.get_future().get();
  }
};

TEST_F(HttpStream, the_head_and_each_event_leave_at_once) {
  std::promise<HttpExchangePtr> arrived;
  serve({}, [&](const HttpExchangePtr& exchange) {
    if (exchange->request().path == "/again") return exchange->reply(HttpResponse::text(200, "kept"));
    arrived.set_value(exchange);
  });
  RawClient client(port_);
  HttpExchangePtr exchange = open_stream(client, arrived);
  std::unique_ptr<SseWriter> writer;
  on_loop([&] {
    writer = std::make_unique<SseWriter>(exchange, 1 << 16);
    writer->begin(HttpResponse::empty(200), Duration{});
  });
  const std::string head = client.read_until("\r\n\r\n");
  EXPECT_NE(head.find("Content-Type: text/event-stream\r\n"), std::string::npos) << head;
  EXPECT_NE(head.find("Transfer-Encoding: chunked\r\n"), std::string::npos) << head;
  EXPECT_EQ(head.find("Content-Length"), std::string::npos) << head;
  // Cadence: each event is read before the next one is written, so a server that held one back would hang here.
  for (int i = 0; i < 20; ++i) {
    on_loop([&] {
      EXPECT_EQ(writer->event(static_cast<std::uint64_t>(i + 1), "token", std::to_string(i)), SseWriter::Sent::ok);
    });
    const std::string want = "id: " + std::to_string(i + 1) + "\nevent: token\ndata: " + std::to_string(i) + "\n\n";
    EXPECT_NE(client.read_until("\n\n\r\n").find(want), std::string::npos) << i;
  }
  on_loop([&] {
    writer->finish();
    writer.reset();
    exchange.reset();
  });
  EXPECT_EQ(client.read_until("0\r\n\r\n"), "0\r\n\r\n");
  client.send(get("/again"));
  EXPECT_TRUE(client.read_response().ends_with("kept"));
}

TEST_F(HttpStream, what_one_turn_writes_leaves_in_one_chunk) {
  std::promise<HttpExchangePtr> arrived;
  serve({}, [&](const HttpExchangePtr& exchange) { arrived.set_value(exchange); });
  RawClient client(port_);
  HttpExchangePtr exchange = open_stream(client, arrived);
  on_loop([&] {
    SseWriter writer(exchange, 1 << 16);
    writer.begin(HttpResponse::empty(200), Duration{});
    for (int i = 0; i < 3; ++i) EXPECT_EQ(writer.event(0, "", "x"), SseWriter::Sent::ok);
    writer.finish();
    exchange.reset();
  });
  client.read_until("\r\n\r\n");
  EXPECT_EQ(client.read_until("0\r\n\r\n"), "1b\r\ndata: x\n\ndata: x\n\ndata: x\n\n\r\n0\r\n\r\n");
}

TEST_F(HttpStream, a_silent_stream_gets_heartbeats) {
  HttpLimits limits;
  limits.header_timeout = Duration::milliseconds(80);  // sets the sweep's pace
  std::promise<HttpExchangePtr> arrived;
  serve(limits, [&](const HttpExchangePtr& exchange) { arrived.set_value(exchange); });
  RawClient client(port_);
  HttpExchangePtr exchange = open_stream(client, arrived);
  on_loop([&] { SseWriter(exchange, 1 << 16).begin(HttpResponse::empty(200), Duration::milliseconds(20)); });
  client.read_until("\r\n\r\n");
  for (int i = 0; i < 3; ++i)
    EXPECT_NE(client.read_until(": keep-alive\n\n\r\n").find(": keep-alive"), std::string::npos);
  on_loop([&] { exchange.reset(); });
}

TEST_F(HttpStream, a_disconnect_during_a_stream_is_told) {
  std::promise<HttpExchangePtr> arrived;
  std::promise<void> gone;
  serve({}, [&](const HttpExchangePtr& exchange) {
    exchange->on_disconnect([&] { gone.set_value(); });
    exchange->begin(HttpResponse::empty(200));
    arrived.set_value(exchange);
  });
  RawClient client(port_);
  HttpExchangePtr exchange = open_stream(client, arrived);
  client.read_until("\r\n\r\n");
  client.close();
  EXPECT_EQ(gone.get_future().wait_for(std::chrono::seconds(5)), std::future_status::ready);
  on_loop([&] {
    EXPECT_FALSE(exchange->is_open());
    exchange->write("into the void");
    exchange->finish();
    exchange.reset();
  });
}

TEST_F(HttpStream, a_reader_that_does_not_read_overflows_its_bound) {
  std::promise<HttpExchangePtr> arrived;
  serve({}, [&](const HttpExchangePtr& exchange) { arrived.set_value(exchange); });
  RawClient client(port_);
  HttpExchangePtr exchange = open_stream(client, arrived);
  const std::string block(32 * 1024, 'b');
  bool overflowed = false;
  std::size_t most = 0;
  on_loop([&] { SseWriter(exchange, 256 * 1024).begin(HttpResponse::empty(200), Duration{}); });
  for (int i = 0; i < 1000 && !overflowed; ++i) {
    on_loop([&] {
      SseWriter writer(exchange, 256 * 1024);
      overflowed = writer.event(0, "", block) == SseWriter::Sent::overflow;
      most = std::max(most, exchange->pending_bytes());
    });
  }
  EXPECT_TRUE(overflowed);
  EXPECT_LT(most, 512U * 1024);
  on_loop([&] {
    exchange->abort();
    exchange.reset();
  });
}

TEST_F(HttpStream, every_answer_is_noted_with_its_status) {
  std::mutex mutex;
  std::vector<std::pair<std::string, int>> seen;
  answered_hook_ = [&](const HttpRequest& request, int status) {
    const std::lock_guard lock(mutex);
    seen.emplace_back(request.path, status);
  };
  serve({}, [](const HttpExchangePtr& exchange) { exchange->reply(HttpResponse::text(404, "no")); });
  RawClient client(port_);
  client.send(get("/x"));
  client.read_response();
  RawClient broken(port_);
  broken.send("GARBAGE\r\n\r\n");
  broken.read_response();
  const std::lock_guard lock(mutex);
  EXPECT_EQ(seen, (std::vector<std::pair<std::string, int>>{{"/x", 404}, {"", 400}}));
}

}  // namespace
}  // namespace orch::runtime
