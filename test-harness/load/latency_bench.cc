// How long a token takes from the engine that gives it to the client that reads it, over many streams at once.
//
//   latency_bench PORT MODEL STREAMS TOKENS
//
// asks the gateway on 127.0.0.1:PORT for STREAMS streamed answers of TOKENS tokens each, of a mock engine whose script
// says {"clock":true}: each token's text is the machine's clock when the engine gave it. One thread reads all streams;
// a token's latency ends when the read that brought it returns, so it holds the client's own waiting for the streams
// before it too. Counted from the moment when every stream has begun. Prints one line of JSON, in microseconds; exit
// status 1 when a stream ended without its answer.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "common/runtime/clock.h"

namespace {

using orch::Instant;

constexpr int kPatienceMs = 60'000;  // without a byte on any stream

struct Stream {
  int fd = -1;
  std::string rest;  // the line that is not whole yet
  std::uint32_t tokens = 0;
  bool done = false;
};

class Latencies {
 public:
  explicit Latencies(std::uint32_t streams) : waiting_(streams) {}

  bool all_begun() const { return waiting_ == 0; }
  void begun() { --waiting_; }
  void add(Instant given, Instant read) {
    if (all_begun()) us_.push_back(static_cast<double>((read - given).ns) / 1e3);
  }
  double at(double share) {
    const auto index = static_cast<std::ptrdiff_t>(share * static_cast<double>(us_.size() - 1));
    std::nth_element(us_.begin(), us_.begin() + index, us_.end());
    return us_[static_cast<std::size_t>(index)];
  }
  std::size_t size() const { return us_.size(); }

 private:
  std::uint32_t waiting_;  // streams without a token yet
  std::vector<double> us_;
};

int open_stream(std::uint16_t port, const std::string& request) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return -1;
  if (::write(fd, request.data(), request.size()) != static_cast<ssize_t>(request.size())) return -1;
  return fd;
}

// One line of the event stream; a chunk may carry the words of several tokens.
void take_line(Stream& stream, std::string_view line, Instant read, Latencies& out) {
  constexpr std::string_view kContent = "\"content\":\"";
  if (line.find("data: [DONE]") == 0) stream.done = true;
  const std::size_t at = line.find(kContent);
  if (at == std::string_view::npos) return;
  const char* next = line.data() + at + kContent.size();
  const char* const end = line.data() + line.size();
  while (next < end && *next == ' ') {
    Instant given;
    const auto [after, error] = std::from_chars(next + 1, end, given.ns);
    if (error != std::errc()) return;
    next = after;
    if (stream.tokens++ == 0) out.begun();
    out.add(given, read);
  }
}

// False at the end of the connection.
bool take_bytes(Stream& stream, Latencies& out) {
  std::array<char, 65536> buffer;
  const ssize_t count = ::read(stream.fd, buffer.data(), buffer.size());
  const Instant read = orch::runtime::now();
  if (count <= 0) return false;
  stream.rest.append(buffer.data(), static_cast<std::size_t>(count));
  std::size_t begin = 0;
  for (std::size_t end = 0; (end = stream.rest.find('\n', begin)) != std::string::npos; begin = end + 1) {
    take_line(stream, std::string_view(stream.rest).substr(begin, end - begin), read, out);
  }
  stream.rest.erase(0, begin);
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fputs("usage: latency_bench PORT MODEL STREAMS TOKENS\n", stderr);
    return 64;
  }
  const auto port = static_cast<std::uint16_t>(std::atoi(argv[1]));
  const auto count = static_cast<std::uint32_t>(std::atoi(argv[3]));
  const std::string body = R"({"model":")" + std::string(argv[2]) +
                           R"(","messages":[{"role":"user","content":"x"}],"stream":true,"max_tokens":)" +
                           std::to_string(std::atoi(argv[4])) + "}";
  const std::string request =
      "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: " +
      std::to_string(body.size()) + "\r\n\r\n" + body;

  std::vector<Stream> streams(count);
  Latencies latencies(count);
  const int poller = ::epoll_create1(EPOLL_CLOEXEC);
  for (Stream& stream : streams) {
    stream.fd = open_stream(port, request);
    epoll_event interest{.events = EPOLLIN, .data = {.ptr = &stream}};
    if (stream.fd < 0 || ::epoll_ctl(poller, EPOLL_CTL_ADD, stream.fd, &interest) != 0) {
      std::perror("connect");
      return 1;
    }
  }
  std::uint32_t open = count;
  std::array<epoll_event, 64> ready;
  while (open > 0) {
    const int events = ::epoll_wait(poller, ready.data(), ready.size(), kPatienceMs);
    if (events <= 0) break;
    for (int i = 0; i < events; ++i) {
      auto& stream = *static_cast<Stream*>(ready[static_cast<std::size_t>(i)].data.ptr);
      const bool living = take_bytes(stream, latencies);
      if (living && !stream.done) continue;
      ::close(stream.fd);
      --open;
    }
  }
  const auto whole =
      std::count_if(streams.begin(), streams.end(), [](const Stream& s) { return s.done && s.tokens > 0; });
  if (whole != static_cast<std::ptrdiff_t>(count) || latencies.size() == 0) {
    std::fprintf(stderr, "%td of %u streams came to their end, %zu tokens counted\n", whole, count, latencies.size());
    return 1;
  }
  std::printf(R"({"streams":%u,"tokens":%zu,"p50":%.1f,"p90":%.1f,"p99":%.1f,"p999":%.1f,"max":%.1f})"
              "\n",
              count, latencies.size(), latencies.at(0.5), latencies.at(0.9), latencies.at(0.99), latencies.at(0.999),
              latencies.at(1));
}
