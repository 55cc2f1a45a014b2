// Any bytes in a request target, a query or a header value: decoding stays in bounds, and no value can begin a header
// line of its own (OC-CTRL-2052, OC-CTRL-2071).
#include "common/runtime/http_head.h"
#include "common/runtime/json_text.h"
#include "common/testing/fuzz_target.h"

namespace orch::testing {

std::string make_seed(Prng& prng) {
  static constexpr const char* kParts[] = {"/v1/tasks", "%2F",      "%00",      "%", "%zz",  "?a=b",
                                           "&a=%20c",   "http://h", "https://", "/", "\r\n", "X-A: b\n",
                                           "\xC3\xA9",  "=",        "a",        "\""};
  std::string out;
  for (std::uint64_t i = prng.below(12); i > 0; --i) out += kParts[prng.below(std::size(kParts))];
  return out;
}

}  // namespace orch::testing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orch;
  using namespace orch::runtime;
  const std::string_view text = testing::text_of(data, size);

  HttpRequest request;
  if (split_target(text, request)) {
    ORCH_CHECK(request.path.starts_with('/') && request.path.find('\0') == std::string::npos &&
               request.path.size() <= text.size());
  }
  ORCH_CHECK(query_value(text, "a").size() <= text.size());

  request.correlation_id = is_valid_correlation_id(text) ? std::string(text) : "generated";
  HttpResponse response = HttpResponse::json(400, "{}");
  response.with("X-Orch-Engine-Version", std::string(text));
  HttpDate date;
  std::string head;
  append_response_head(head, request, response, {}, date);
  std::size_t lines = 0;
  for (std::size_t at = head.find('\n'); at != std::string::npos; at = head.find('\n', at + 1)) ++lines;
  ORCH_CHECK(lines == 7);  // status, Date, X-Correlation-Id, Content-Type, ours, Content-Length, the empty line
  ORCH_CHECK(head.find('\r') != std::string::npos && head.ends_with("\r\n\r\n"));

  std::string json;
  append_json_string(json, text);
  ORCH_CHECK(json.find_first_of("\r\n") == std::string::npos && json.size() <= 6 * text.size() + 2);
  return 0;
}
