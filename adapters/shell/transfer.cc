#include "adapters/shell/transfer.h"

#include <utility>

#include "common/base/check.h"

namespace orch::adapter {
namespace {

constexpr std::size_t kHeadBytesMax = 64 * 1024;

}  // namespace

std::unique_ptr<Transfer> Transfer::start(CURLM* multi, const EngineAddress& address, const HttpRequest& request,
                                          Events events) {
  std::unique_ptr<Transfer> transfer(new Transfer(multi, std::move(events)));
  transfer->easy_ = ::curl_easy_init();
  if (transfer->easy_ == nullptr || !transfer->configure(address, request)) return nullptr;
  if (multi != nullptr && ::curl_multi_add_handle(multi, transfer->easy_) != CURLM_OK) return nullptr;
  return transfer;
}

Transfer::~Transfer() {
  if (easy_ != nullptr) {
    if (multi_ != nullptr) ::curl_multi_remove_handle(multi_, easy_);
    ::curl_easy_cleanup(easy_);
  }
  ::curl_slist_free_all(headers_);
}

bool Transfer::add_header(const std::string& line) {
  curl_slist* const longer = ::curl_slist_append(headers_, line.c_str());
  if (longer == nullptr) return false;
  headers_ = longer;
  return true;
}

bool Transfer::configure(const EngineAddress& address, const HttpRequest& request) {
  body_ = request.body;
  bool ok = true;
  const auto set = [this, &ok](CURLoption option, auto value) {
    ok = ok && ::curl_easy_setopt(easy_, option, value) == CURLE_OK;
  };
  set(CURLOPT_URL, (address.url + request.path).c_str());
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_PROXY, "");  // an engine is reached directly, whatever the environment says
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(CURLOPT_WRITEFUNCTION, &Transfer::on_write);
  set(CURLOPT_WRITEDATA, static_cast<void*>(this));
  set(CURLOPT_HEADERFUNCTION, &Transfer::on_header);
  set(CURLOPT_HEADERDATA, static_cast<void*>(this));
  set(CURLOPT_PREREQFUNCTION, &Transfer::on_connected);
  set(CURLOPT_PREREQDATA, static_cast<void*>(this));
  ok = ok && add_header("Accept: application/json, text/event-stream") && add_header("Expect:");
  if (!address.key.empty()) ok = ok && add_header("Authorization: Bearer " + address.key);
  if (!body_.empty()) {
    ok = ok && add_header("Content-Type: application/json");
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body_.size()));
    set(CURLOPT_POSTFIELDS, body_.c_str());
  }
  set(CURLOPT_HTTPHEADER, headers_);
  return ok;
}

bool Transfer::take_head() {
  if (head_told_) return true;
  long status = 0;
  if (::curl_easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &status) != CURLE_OK) return false;
  if (status < 200) return true;  // an interim answer: the real head follows
  head_told_ = true;
  events_.on_head(static_cast<int>(status));
  return true;
}

std::size_t Transfer::on_write(char* bytes, std::size_t size, std::size_t count, void* self) {
  auto& transfer = *static_cast<Transfer*>(self);
  const std::size_t total = size * count;
  if (!transfer.take_head() || !transfer.events_.on_body({bytes, total})) return CURL_WRITEFUNC_ERROR;
  return total;
}

std::size_t Transfer::on_header(char* bytes, std::size_t size, std::size_t count, void* self) {
  auto& transfer = *static_cast<Transfer*>(self);
  const std::size_t total = size * count;
  transfer.head_bytes_ += total;
  if (transfer.head_bytes_ > kHeadBytesMax) return 0;  // row A14
  if (total == 2 && bytes[0] == '\r' && !transfer.take_head()) return 0;
  return total;
}

int Transfer::on_connected(void* self, char*, char*, int, int) {
  static_cast<Transfer*>(self)->connected_ = true;
  return CURL_PREREQFUNC_OK;
}

std::string Transfer::describe(CURLcode code) { return ::curl_easy_strerror(code); }

HttpReply fetch(const EngineAddress& address, const HttpRequest& request, Duration limit, std::size_t bytes_max) {
  HttpReply reply;
  const auto transfer = Transfer::start(nullptr, address, request,
                                        {.on_head = [&reply](int status) { reply.status = status; },
                                         .on_body =
                                             [&reply, bytes_max](std::string_view bytes) {
                                               if (reply.body.size() + bytes.size() > bytes_max) return false;
                                               reply.body += bytes;
                                               return true;
                                             }});
  if (transfer == nullptr) return {};
  ::curl_easy_setopt(transfer->handle(), CURLOPT_TIMEOUT_MS, static_cast<long>(limit.ms_ceil()));
  if (::curl_easy_perform(transfer->handle()) != CURLE_OK) return {};
  return reply;
}

}  // namespace orch::adapter
