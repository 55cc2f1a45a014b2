#include "cli/up.h"

#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "cli/api_client.h"
#include "cli/commands.h"
#include "cli/log_file.h"
#include "cli/process.h"
#include "cli/replica_progress.h"

namespace orch::cli {

namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr auto kPollEvery = std::chrono::milliseconds(100);
constexpr auto kStartDeadline = std::chrono::minutes(5);
constexpr long kQuickTimeoutMs = 3000;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

void progress(const std::string& text) {
  std::fprintf(stderr, ::isatty(2) != 0 ? "\r\033[K%s" : "%s\n", text.c_str());
  std::fflush(stderr);
}

// What the pool manager says of the model; nothing when it does not answer.
ReplicaProgress ask_manager(const ClusterOptions& options) {
  const auto port = read_small_file(ClusterFiles(options.state_dir).manager_http_port);
  if (!port.ok()) return {};
  const auto reply =
      http_get("http://127.0.0.1:" + std::to_string(std::atoi(port->c_str())) + "/v1/replicas", kQuickTimeoutMs);
  if (!reply.ok() || reply->status != 200) return {};
  return read_replica_progress(reply->body, options.model_name);
}

// Our own gateway writes its port file; whatever else answers at the configured address is not this cluster.
bool model_is_served(const ClusterOptions& options) {
  if (!read_small_file(ClusterFiles(options.state_dir).http_port).ok()) return false;
  const auto reply = http_get(base_url(options) + "/readyz", kQuickTimeoutMs);
  return reply.ok() && reply->status == 200;
}

Result<pid_t, std::string> start_supervisor(const ClusterOptions& options, const ClusterFiles& files) {
  ORCH_TRY(written, write_cluster_files(options, files));
  static_cast<void>(written);
  ::unlink(files.supervisor_failure.c_str());
  ::unlink(files.http_port.c_str());
  ::unlink(files.manager_http_port.c_str());
  return spawn({.command = {options.binary_dir + "/llama-orch-cli", "--state-dir", options.state_dir, "--binary-dir",
                            options.binary_dir, "supervise"},
                .log_file = files.supervisor_log,
                .new_session = true});
}

// OC-CLI-1010: nobody is left who could bring the model up. Ours may have ended because another one runs: that one will
// do.
bool supervisor_gone(const ClusterFiles& files, std::optional<pid_t>& ours) {
  if (ours && !poll_exit(*ours)) return false;
  ours.reset();
  return !PidFile::owner(files.supervisor_pid);
}

// The model will not come. A cluster of our own making is stopped, so that the next `up` starts with what was
// corrected.
int give_up(const ClusterOptions& options, bool was_running) {
  if (was_running) {
    std::fprintf(stderr, "the cluster was already running; `llama-orch down` stops it\n");
  } else {
    static_cast<void>(run_down(options));
  }
  return 1;
}

Json chat_request(const ClusterOptions& options, const std::string& prompt, std::uint32_t max_tokens,
                  double temperature) {
  return {{"model", options.model_name},
          {"stream", true},
          {"stream_options", {{"include_usage", true}}},
          {"max_tokens", max_tokens},
          {"temperature", temperature},
          {"messages", Json::array({{{"role", "user"}, {"content", prompt}}})}};
}

struct Answer {
  Clock::time_point sent = Clock::now();
  double first_token_seconds = -1;
  std::uint64_t completion_tokens = 0;
  std::string error;
  bool done = false;
};

bool take_chunk(Answer& answer, std::string_view data) {
  if (data == "[DONE]") {
    answer.done = true;
    return true;
  }
  const Json chunk = Json::parse(data, nullptr, false);
  if (!chunk.is_object()) return true;
  if (chunk.contains("error")) {
    answer.error = chunk["error"].value("code", "error") + ": " + chunk["error"].value("message", "");
    return true;
  }
  if (chunk.contains("usage") && chunk["usage"].is_object()) {
    answer.completion_tokens = chunk["usage"].value("completion_tokens", std::uint64_t{0});
  }
  for (const Json& choice : chunk.value("choices", Json::array())) {
    const Json delta = choice.value("delta", Json::object());
    if (!delta.contains("content") || !delta["content"].is_string()) continue;
    const std::string text = delta["content"];
    if (text.empty()) continue;
    if (answer.first_token_seconds < 0) answer.first_token_seconds = seconds_since(answer.sent);
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }
  return true;
}

void print_timing(const Answer& answer, const HttpReply& reply) {
  std::fflush(stdout);  // the answer stands on a line of its own before this one
  const double total = seconds_since(answer.sent);
  const double decoding = total - answer.first_token_seconds;
  const auto tokens = answer.completion_tokens;
  std::fprintf(stderr, "time to first token %.0f ms, %llu tokens", answer.first_token_seconds * 1000,
               static_cast<unsigned long long>(tokens));
  if (tokens > 1 && decoding > 0) std::fprintf(stderr, ", %.1f tokens/s", static_cast<double>(tokens - 1) / decoding);
  const std::string accelerator = reply.header("x-orch-accelerator");
  if (accelerator == "cpu") {
    std::fprintf(stderr, "; served by the CPU, no GPU was used\n");
  } else {
    std::fprintf(stderr, "; served by %s\n", accelerator.empty() ? "an unnamed device" : accelerator.c_str());
  }
}

}  // namespace

std::string base_url(const ClusterOptions& options) {
  const auto port = read_small_file(ClusterFiles(options.state_dir).http_port);
  if (port.ok() && std::atoi(port->c_str()) > 0) return "http://127.0.0.1:" + std::to_string(std::atoi(port->c_str()));
  return "http://" + options.http_listen;
}

int ensure_up(const ClusterOptions& options) {
  const ClusterFiles files(options.state_dir);
  const bool running = PidFile::owner(files.supervisor_pid).has_value();
  if (running && model_is_served(options)) return 0;
  std::optional<pid_t> ours;
  if (!running) {
    const auto pid = start_supervisor(options, files);
    if (!pid.ok()) {
      std::fprintf(stderr, "%s\n", pid.error().c_str());
      return 1;
    }
    ours = *pid;
  }
  const auto start = Clock::now();
  std::string shown;
  while (Clock::now() - start < kStartDeadline) {
    if (const auto failure = read_small_file(files.supervisor_failure); failure.ok()) {
      progress("");
      std::fprintf(stderr, "%s", failure->c_str());
      return 1;
    }
    if (model_is_served(options)) {
      progress("cluster ready after " + std::to_string(static_cast<int>(std::lround(seconds_since(start) * 1000))) +
               " ms");
      if (::isatty(2) != 0) std::fputc('\n', stderr);
      return 0;
    }
    if (supervisor_gone(files, ours)) {
      progress("");
      std::fprintf(stderr, "the cluster's supervisor has ended: %s\n", last_line(files.supervisor_log).c_str());
      return 1;
    }
    const ReplicaProgress now = ask_manager(options);
    if (now.failure) {
      progress("");
      std::fprintf(stderr, "%s\n", now.failure->c_str());
      return give_up(options, running);
    }
    std::string line = "starting " + options.model_name + (now.text.empty() ? "" : ": " + now.text);
    for (const std::string& restarts : restart_lines(files)) line += "; " + restarts;
    if (line != shown) progress(line);
    shown = line;
    std::this_thread::sleep_for(kPollEvery);
  }
  std::fprintf(stderr, "\nno replica became ready within %lld minutes; see `llama-orch logs`\n",
               static_cast<long long>(kStartDeadline.count()));
  return 1;
}

int stream_chat(const ClusterOptions& options, const std::string& prompt, std::uint32_t max_tokens, double temperature,
                ShowTiming timing) {
  Answer answer;
  const auto reply = http_post_events(
      base_url(options) + "/v1/chat/completions",
      chat_request(options, prompt, max_tokens, temperature).dump(-1, ' ', false, Json::error_handler_t::replace),
      [&](std::string_view data) { return take_chunk(answer, data); });
  if (!reply.ok()) {
    std::fprintf(stderr, "%s\n", reply.error().c_str());
    return 1;
  }
  if (reply->status != 200) {
    std::fprintf(stderr, "HTTP %ld: %s\n", reply->status, reply->body.c_str());
    return 1;
  }
  std::fputc('\n', stdout);
  if (!answer.error.empty() || !answer.done) {
    std::fprintf(stderr, "%s\n", answer.error.empty() ? "the stream ended without its end mark" : answer.error.c_str());
    return 1;
  }
  if (timing == ShowTiming::yes) print_timing(answer, *reply);
  return 0;
}

int run_up(const ClusterOptions& options) {
  if (const int code = ensure_up(options); code != 0) return code;
  std::fputc('\n', stdout);
  const int code = stream_chat(options, "Write a haiku about a quiet morning. Three short lines, nothing else.", 64,
                               0.7, ShowTiming::yes);
  if (code != 0) return code;
  const std::string url = base_url(options);
  std::printf(
      "\nThe cluster stays up. Ask it:\n"
      "  curl %s/v1/chat/completions -d "
      "'{\"model\":\"%s\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}'\n"
      "  ./llama-orch run \"Hello\"        ./llama-orch status        ./llama-orch down\n",
      url.c_str(), options.model_name.c_str());
  return 0;
}

}  // namespace orch::cli
