#include "common/runtime/http_server.h"

#include <atomic>
#include <chrono>

#include "common/runtime/http_fixture.h"

namespace orch::runtime {
namespace {

void echo(const HttpExchangePtr& exchange) {
  const HttpRequest& request = exchange->request();
  exchange->reply(
      HttpResponse::text(200, request.method + " " + request.path + "?" + request.query + " " + request.body));
}

class HttpEdge : public HttpServerFixture {};

TEST_F(HttpEdge, answers_and_keeps_the_connection) {
  serve({}, echo);
  RawClient client(port_);
  client.send(get("/a%20b?x=1"));
  const std::string first = client.read_response();
  EXPECT_TRUE(first.starts_with("HTTP/1.1 200 OK\r\n")) << first;
  EXPECT_TRUE(first.ends_with("GET /a b?x=1 ")) << first;
  client.send(get("/second"));
  EXPECT_TRUE(client.read_response().ends_with("GET /second? "));
}

TEST_F(HttpEdge, takes_a_request_that_arrives_byte_by_byte) {
  serve({}, echo);
  RawClient client(port_);
  for (const char c : std::string("POST /p HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello")) {
    client.send(std::string_view(&c, 1));
  }
  EXPECT_TRUE(client.read_response().ends_with("POST /p? hello"));
}

TEST_F(HttpEdge, answers_pipelined_requests_in_order) {
  serve({}, echo);
  RawClient client(port_);
  client.send(get("/1") + get("/2") +
              "POST /3 HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n" + get("/4"));
  EXPECT_TRUE(client.read_response().ends_with("GET /1? "));
  EXPECT_TRUE(client.read_response().ends_with("GET /2? "));
  EXPECT_TRUE(client.read_response().ends_with("POST /3? ab"));
  EXPECT_TRUE(client.read_response().ends_with("GET /4? "));
}

TEST_F(HttpEdge, refuses_a_body_over_the_limit_by_length_and_by_chunks) {
  HttpLimits limits;
  limits.body_bytes = 1000;
  serve(limits, echo);
  RawClient declared(port_);
  declared.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 10000000\r\n\r\n");
  const std::string answer = declared.read_response();
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 413 ")) << answer;
  EXPECT_NE(answer.find("exceeds 1000 bytes"), std::string::npos);
  EXPECT_EQ(declared.read_to_end(), "");  // and the connection ends

  RawClient chunked(port_);
  chunked.send("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
  const std::string chunk = "190\r\n" + std::string(400, 'x') + "\r\n";
  chunked.send(chunk + chunk + chunk);
  EXPECT_TRUE(chunked.read_response().starts_with("HTTP/1.1 413 "));

  RawClient fits(port_);
  fits.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\n" + std::string(1000, 'y'));
  EXPECT_TRUE(fits.read_response().starts_with("HTTP/1.1 200 "));
}

TEST_F(HttpEdge, refuses_a_head_over_the_limit) {
  HttpLimits limits;
  limits.header_bytes = 2048;
  serve(limits, echo);
  RawClient many(port_);
  std::string head = "GET / HTTP/1.1\r\nHost: t\r\n";
  for (int i = 0; i < 100; ++i) head += "X-Filler-" + std::to_string(i) + ": " + std::string(40, 'f') + "\r\n";
  many.send(head + "\r\n");
  EXPECT_TRUE(many.read_response().starts_with("HTTP/1.1 431 "));
  RawClient endless(port_);
  endless.send("GET /" + std::string(5000, 'a'));
  EXPECT_TRUE(endless.read_response().starts_with("HTTP/1.1 431 "));
}

TEST_F(HttpEdge, refuses_what_is_not_http_and_smuggled_lengths) {
  serve({}, echo);
  for (const std::string_view bad : {
           "NOT HTTP\r\n\r\n",
           "GET / HTTP/1.1\r\n\r\n",  // no Host
           "GET nowhere HTTP/1.1\r\nHost: t\r\n\r\n",
           "GET /%zz HTTP/1.1\r\nHost: t\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
           "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: -1\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
           // A body whose end we would see elsewhere than who forwarded it.
           "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
           "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked, chunked\r\nContent-Length: 3\r\n\r\nabc",
           "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: \r\nContent-Length: 3\r\n\r\nabc",
           "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: xchunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
           "POST / HTTP/1.0\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
       }) {
    RawClient client(port_);
    client.send(bad);
    EXPECT_TRUE(client.read_response().starts_with("HTTP/1.1 400 ")) << bad;
    EXPECT_EQ(client.read_to_end(), "") << bad;
  }
}

// ORCH slow loris: a head that trickles in is answered 408 within its limit, however often a byte comes.
TEST_F(HttpEdge, a_head_that_trickles_ends_in_408) {
  HttpLimits limits;
  limits.header_timeout = Duration::milliseconds(150);
  serve(limits, echo);
  RawClient client(port_);
  client.send("GET / HTTP/1.1\r\nHost: t\r\n");
  const Instant began = now();
  while (now() - began < Duration::seconds(5) && client.send("X: y\r\n")) {
    pollfd waiter{client.fd(), POLLIN, 0};
    if (::poll(&waiter, 1, 10) > 0) break;
  }
  EXPECT_TRUE(client.read_response().starts_with("HTTP/1.1 408 "));
  EXPECT_LT(now() - began, Duration::seconds(4));
}

TEST_F(HttpEdge, a_body_that_does_not_arrive_ends_in_408_and_an_idle_connection_is_closed) {
  HttpLimits limits;
  limits.body_timeout = Duration::milliseconds(60);
  limits.idle_timeout = Duration::milliseconds(60);
  serve(limits, echo);
  RawClient body(port_);
  body.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhe");
  EXPECT_TRUE(body.read_response().starts_with("HTTP/1.1 408 "));
  RawClient idle(port_);
  EXPECT_EQ(idle.read_to_end(), "");
}

TEST_F(HttpEdge, refuses_connections_over_the_limit) {
  HttpLimits limits;
  limits.connections = 1;
  serve(limits, echo);
  RawClient first(port_);
  first.send(get("/"));
  EXPECT_TRUE(first.read_response().starts_with("HTTP/1.1 200 "));
  RawClient second(port_);
  EXPECT_TRUE(second.read_response().starts_with("HTTP/1.1 503 "));
  first.send(get("/"));
  EXPECT_TRUE(first.read_response().starts_with("HTTP/1.1 200 "));
}

TEST_F(HttpEdge, the_head_hook_refuses_before_the_body_is_read) {
  head_hook_ = [](const HttpRequest& request) -> HttpVerdict {
    EXPECT_TRUE(request.body.empty());
    if (request.header("authorization") == "good") return {};
    return {HttpResponse::text(401, "who?")};
  };
  serve({}, echo);
  RawClient client(port_);
  client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 900000\r\n\r\n");
  EXPECT_TRUE(client.read_response().starts_with("HTTP/1.1 401 "));
  RawClient good(port_);
  good.send("POST / HTTP/1.1\r\nHost: t\r\nAuthorization: good\r\nContent-Length: 2\r\n\r\nok");
  EXPECT_TRUE(good.read_response().ends_with("ok"));
}

// The rest of what was refused is read past, so its connection serves the next request.
TEST_F(HttpEdge, a_request_refused_by_its_head_costs_no_connection_where_its_end_is_sure) {
  head_hook_ = [](const HttpRequest& request) -> HttpVerdict {
    if (request.path == "/open") return {};
    return {HttpResponse::text(429, "later")};
  };
  serve({}, echo);
  const std::string body(1000, 'x');
  const std::string head = "POST /full HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\n";
  RawClient whole(port_);
  whole.send(head + body + get("/open"));
  EXPECT_TRUE(whole.read_response().starts_with("HTTP/1.1 429 "));
  EXPECT_TRUE(whole.read_response().ends_with("GET /open? "));
  whole.send(head);
  EXPECT_TRUE(whole.read_response().starts_with("HTTP/1.1 429 ")) << "before a byte of the body";
  whole.send(body.substr(0, 600));
  whole.send(body.substr(600) + get("/open"));
  EXPECT_TRUE(whole.read_response().ends_with("GET /open? "));

  for (const std::string tail : {"Content-Length: 900000\r\n", "Transfer-Encoding: chunked\r\n",
                                 "Content-Length: 2\r\nExpect: 100-continue\r\n"}) {
    RawClient unsure(port_);
    unsure.send("POST /full HTTP/1.1\r\nHost: t\r\n" + tail + "\r\n");
    EXPECT_TRUE(unsure.read_response().starts_with("HTTP/1.1 429 ")) << tail;
    EXPECT_EQ(unsure.read_to_end(), "") << tail;
  }
}

// What a verdict's handler owns is released when the request comes to nothing (OC-ADMIT-1005).
TEST_F(HttpEdge, OC_ADMIT_1005_the_handler_of_a_head_is_called_once_or_dropped) {
  struct Place {
    std::atomic<int>& held;
    explicit Place(std::atomic<int>& counter) : held(counter) { ++held; }
    ~Place() { --held; }
  };
  std::atomic<int> held = 0;
  head_hook_ = [&](const HttpRequest&) {
    HttpVerdict verdict;
    verdict.handler = [place = std::make_shared<Place>(held)](const HttpExchangePtr& exchange) {
      exchange->reply(HttpResponse::text(200, "held " + std::to_string(place->held)));
    };
    return verdict;
  };
  HttpLimits limits;
  limits.body_bytes = 100;
  limits.body_timeout = Duration::seconds(2);
  serve(limits, [](const HttpExchangePtr& exchange) { exchange->reply(HttpResponse::text(500, "not this one")); });
  const auto none_held = [&] {
    for (int i = 0; i < 1000 && held != 0; ++i) on_loop([] {});
    return held == 0;
  };
  const std::string post = "POST / HTTP/1.1\r\nHost: t\r\n";
  RawClient good(port_);
  good.send(post + "Content-Length: 2\r\n\r\nok");
  EXPECT_TRUE(good.read_response().ends_with("held 1"));
  EXPECT_TRUE(none_held());
  for (const std::string rest : {"Content-Length: 101\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nno number\r\n",
                                 "Content-Length: 2\r\n\r\n"}) {
    RawClient refused(port_);
    refused.send(post + rest);
    const std::string answer = refused.read_response();  // too large, malformed, too slow
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 4")) << answer;
    EXPECT_TRUE(none_held()) << rest;
  }
  RawClient gone(port_);
  gone.send(post + "Content-Length: 2\r\n\r\n");
  while (held == 0) on_loop([] {});
  gone.close();
  EXPECT_TRUE(none_held());
}

TEST_F(HttpEdge, expect_100_continue_is_answered_before_the_body) {
  serve({}, echo);
  RawClient client(port_);
  client.send("POST / HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_EQ(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("ok");
  EXPECT_TRUE(client.read_response().ends_with("ok"));
}

// Correlation ids: a valid one is echoed, anything else is replaced, on every response.
TEST_F(HttpEdge, every_response_carries_a_validated_correlation_id) {
  serve({}, echo);
  const auto id_of = [&](const std::string& value) {
    RawClient client(port_);
    client.send("GET / HTTP/1.1\r\nHost: t\r\nX-Correlation-Id: " + value + "\r\n\r\n");
    const std::string answer = client.read_response();
    const std::size_t at = answer.find("X-Correlation-Id: ");
    return at == std::string::npos ? "absent" : answer.substr(at + 18, answer.find("\r\n", at) - at - 18);
  };
  EXPECT_EQ(id_of("abc-DEF_1.2"), "abc-DEF_1.2");
  EXPECT_EQ(id_of("abc:1").size(), 36U);
  EXPECT_EQ(id_of("two words").size(), 36U);
  EXPECT_EQ(id_of(std::string(129, 'x')).size(), 36U);
  EXPECT_EQ(id_of("").size(), 36U);
  EXPECT_EQ(id_of("\"quoted\"").size(), 36U);
  RawClient broken(port_);
  broken.send("NONSENSE\r\n\r\n");
  EXPECT_NE(broken.read_response().find("X-Correlation-Id: "), std::string::npos);
}

TEST_F(HttpEdge, a_disconnect_is_told_while_the_answer_is_awaited) {
  std::promise<void> arrived;
  std::promise<void> gone;
  HttpExchangePtr held;
  serve({}, [&](const HttpExchangePtr& exchange) {
    held = exchange;
    exchange->on_disconnect([&] { gone.set_value(); });
    arrived.set_value();
  });
  RawClient client(port_);
  client.send(get("/"));
  arrived.get_future().wait();
  client.close();
  EXPECT_EQ(gone.get_future().wait_for(std::chrono::seconds(5)), std::future_status::ready);
  on_loop([&] {
    EXPECT_FALSE(held->is_open());
    held->reply(HttpResponse::text(200, "nobody hears it"));
    held.reset();
  });
}

TEST_F(HttpEdge, an_exchange_dropped_without_an_answer_is_a_500) {
  serve({}, [](const HttpExchangePtr&) {});
  RawClient client(port_);
  client.send(get("/"));
  EXPECT_TRUE(client.read_response().starts_with("HTTP/1.1 500 "));
}

TEST_F(HttpEdge, http_1_0_gets_its_answer_and_a_close) {
  serve({}, echo);
  RawClient client(port_);
  client.send("GET /old HTTP/1.0\r\n\r\n");
  EXPECT_TRUE(client.read_to_end().ends_with("GET /old? "));
}

TEST_F(HttpEdge, head_has_no_body) {
  serve({}, echo);
  RawClient client(port_);
  client.send("HEAD /h HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(client.read_to_end().ends_with("\r\n\r\n"));
}

TEST_F(HttpEdge, drain_lets_running_exchanges_end_and_refuses_new_connections) {
  std::promise<HttpExchangePtr> arrived;
  serve({}, [&](const HttpExchangePtr& exchange) { arrived.set_value(exchange); });
  RawClient idle(port_);
  RawClient busy(port_);
  busy.send(get("/"));
  HttpExchangePtr exchange = arrived.get_future().get();
  std::promise<void> drained;
  on_loop([&] { server_->drain([&] { drained.set_value(); }); });
  EXPECT_EQ(idle.read_to_end(), "");
  auto future = drained.get_future();
  EXPECT_EQ(future.wait_for(std::chrono::milliseconds(0)), std::future_status::timeout);
  on_loop([&] {
    exchange->reply(HttpResponse::text(200, "late"));
    exchange.reset();
  });
  const std::string answer = busy.read_response();
  EXPECT_TRUE(answer.ends_with("late"));
  EXPECT_NE(answer.find("Connection: close"), std::string::npos);
  busy.close();
  EXPECT_EQ(future.wait_for(std::chrono::seconds(5)), std::future_status::ready);
}

TEST_F(HttpEdge, an_address_in_use_is_a_typed_start_error) {
  serve({}, echo);
  EventLoop other_loop;
  HttpServer other(other_loop, {}, {});
  const auto port = other.listen({false, "", "127.0.0.1", port_});
  ASSERT_FALSE(port.ok());
  EXPECT_EQ(port.error().kind, ListenError::Kind::in_use);
  EXPECT_EQ(port.error().exit_code(), 74);
  EXPECT_NE(port.error().message.find(std::to_string(port_)), std::string::npos);
}

}  // namespace
}  // namespace orch::runtime
