#include "common/runtime/http_head.h"

#include <ctime>

#include "common/runtime/json_text.h"

namespace orch::runtime {

namespace {

// A line break in a value would end the header and begin another.
void append_header(std::string& out, std::string_view name, std::string_view value) {
  out.append(name).append(": ");
  const std::size_t from = out.size();
  out.append(value);
  for (std::size_t i = from; i < out.size(); ++i) {
    if (static_cast<unsigned char>(out[i]) < 0x20) out[i] = ' ';
  }
  out.append("\r\n");
}

}  // namespace

std::string_view HttpDate::current() {
  const std::time_t second = std::time(nullptr);
  if (second != second_) {
    second_ = second;
    std::tm utc{};
    ::gmtime_r(&second, &utc);
    char text[64];
    text_.assign(text, std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &utc));
  }
  return text_;
}

void append_response_head(std::string& out, const HttpRequest& request, const HttpResponse& response,
                          HttpHeadOptions options, HttpDate& date) {
  out += "HTTP/1.1 ";
  append_number(out, static_cast<std::uint64_t>(response.status));
  out.append(" ").append(http_reason(response.status)).append("\r\nDate: ").append(date.current()).append("\r\n");
  append_header(out, "X-Correlation-Id", request.correlation_id);
  if (!response.content_type.empty()) append_header(out, "Content-Type", response.content_type);
  for (const HttpHeader& field : response.headers) append_header(out, field.name, field.value);
  if (options.framing == HttpFraming::chunked) {
    out += "Transfer-Encoding: chunked\r\n";
  } else if (options.framing == HttpFraming::whole && response.status >= 200 && response.status != 204) {
    out += "Content-Length: ";
    append_number(out, static_cast<std::uint64_t>(response.body.size()));
    out += "\r\n";
  }
  if (!options.keep_alive) {
    out += "Connection: close\r\n";
  } else if (options.say_keep_alive) {
    out += "Connection: keep-alive\r\n";
  }
  out += "\r\n";
}

bool split_target(std::string_view target, HttpRequest& request) {
  for (const std::string_view scheme : {std::string_view("http://"), std::string_view("https://")}) {
    if (!target.starts_with(scheme)) continue;
    target.remove_prefix(scheme.size());
    const std::size_t slash = target.find('/');
    if (slash == std::string_view::npos) return false;
    target.remove_prefix(slash);
  }
  if (!target.starts_with('/')) return false;
  const std::size_t question = target.find('?');
  if (question != std::string_view::npos) request.query = std::string(target.substr(question + 1));
  return percent_decode(target.substr(0, question), request.path);
}

bool has_sure_end(const HttpRequest& head, bool is_http_1_1) {
  std::size_t codings = 0;
  for (const HttpHeader& field : head.headers) {
    if (!equals_ignoring_case(field.name, "Transfer-Encoding")) continue;
    if (++codings > 1 || !is_http_1_1 || !equals_ignoring_case(field.value, "chunked")) return false;
  }
  return true;
}

}  // namespace orch::runtime
