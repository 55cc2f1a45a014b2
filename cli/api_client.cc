#include "cli/api_client.h"

#include <curl/curl.h>

#include <cctype>
#include <memory>

namespace orch::cli {

namespace {

constexpr std::size_t kBodyBytesMax = std::size_t{16} << 20;
constexpr std::size_t kLineBytesMax = std::size_t{1} << 20;
constexpr long kConnectTimeoutMs = 3000;

struct Handle {
  Handle() : curl(curl_easy_init()) { ORCH_CHECK(curl != nullptr); }
  ~Handle() {
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  CURL* curl;
  curl_slist* headers = nullptr;
};

struct Exchange {
  HttpReply reply;
  const std::function<bool(std::string_view)>* on_data = nullptr;
  std::string line;
  bool stopped = false;
};

std::size_t take_header(char* data, std::size_t size, std::size_t count, void* user) {
  static_cast<Exchange*>(user)->reply.headers.append(data, size * count);
  return size * count;
}

// Our own daemons send one `data:` line per event, which is all this needs to read.
bool take_event_bytes(Exchange& exchange, std::string_view bytes) {
  for (const char c : bytes) {
    if (c != '\n') {
      if (exchange.line.size() >= kLineBytesMax) return false;
      exchange.line.push_back(c);
      continue;
    }
    if (!exchange.line.empty() && exchange.line.back() == '\r') exchange.line.pop_back();
    constexpr std::string_view kData = "data:";
    if (exchange.line.starts_with(kData)) {
      std::string_view data = std::string_view(exchange.line).substr(kData.size());
      if (data.starts_with(' ')) data.remove_prefix(1);
      if (!(*exchange.on_data)(data)) {
        exchange.stopped = true;
        return false;
      }
    }
    exchange.line.clear();
  }
  return true;
}

std::size_t take_body(char* data, std::size_t size, std::size_t count, void* user) {
  Exchange& exchange = *static_cast<Exchange*>(user);
  const std::size_t bytes = size * count;
  if (exchange.on_data != nullptr && exchange.reply.header("content-type").starts_with("text/event-stream")) {
    return take_event_bytes(exchange, {data, bytes}) ? bytes : 0;
  }
  if (exchange.reply.body.size() + bytes > kBodyBytesMax) return 0;
  exchange.reply.body.append(data, bytes);
  return bytes;
}

Result<HttpReply, std::string> perform(const std::string& url, const std::string* json, long timeout_ms,
                                       const std::function<bool(std::string_view)>* on_data) {
  Handle handle;
  Exchange exchange;
  exchange.on_data = on_data;
  curl_easy_setopt(handle.curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(handle.curl, CURLOPT_PROXY, "");  // our daemons are never behind the user's proxy
  curl_easy_setopt(handle.curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle.curl, CURLOPT_CONNECTTIMEOUT_MS, kConnectTimeoutMs);
  curl_easy_setopt(handle.curl, CURLOPT_TIMEOUT_MS, timeout_ms);
  curl_easy_setopt(handle.curl, CURLOPT_HEADERFUNCTION, take_header);
  curl_easy_setopt(handle.curl, CURLOPT_HEADERDATA, &exchange);
  curl_easy_setopt(handle.curl, CURLOPT_WRITEFUNCTION, take_body);
  curl_easy_setopt(handle.curl, CURLOPT_WRITEDATA, &exchange);
  if (json != nullptr) {
    handle.headers = curl_slist_append(handle.headers, "Content-Type: application/json");
    handle.headers = curl_slist_append(handle.headers, "Expect:");
    curl_easy_setopt(handle.curl, CURLOPT_HTTPHEADER, handle.headers);
    curl_easy_setopt(handle.curl, CURLOPT_POSTFIELDS, json->c_str());
    curl_easy_setopt(handle.curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(json->size()));
  }
  const CURLcode code = curl_easy_perform(handle.curl);
  curl_easy_getinfo(handle.curl, CURLINFO_RESPONSE_CODE, &exchange.reply.status);
  if (code != CURLE_OK && !exchange.stopped) return Err{url + ": " + curl_easy_strerror(code)};
  return std::move(exchange.reply);
}

constexpr long kRedirectsMax = 5;
constexpr long kStalledSeconds = 60;  // below 1 KiB/s for so long: the download has failed

struct Download {
  CURL* curl = nullptr;
  const std::function<bool(std::string_view)>* take = nullptr;
  const std::function<void(std::uint64_t, std::optional<std::uint64_t>)>* progress = nullptr;
  std::uint64_t done = 0;
};

std::size_t take_download(char* data, std::size_t size, std::size_t count, void* user) {
  Download& download = *static_cast<Download*>(user);
  const std::size_t bytes = size * count;
  if (!(*download.take)({data, bytes})) return 0;
  download.done += bytes;
  curl_off_t all = -1;
  curl_easy_getinfo(download.curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &all);
  (*download.progress)(download.done, all > 0 ? std::optional(static_cast<std::uint64_t>(all)) : std::nullopt);
  return bytes;
}

}  // namespace

Status<std::string> http_download(const std::string& url, const std::function<bool(std::string_view)>& take,
                                  const std::function<void(std::uint64_t, std::optional<std::uint64_t>)>& progress) {
  Handle handle;
  Download download{handle.curl, &take, &progress};
  curl_easy_setopt(handle.curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(handle.curl, CURLOPT_PROTOCOLS_STR, "https");
  curl_easy_setopt(handle.curl, CURLOPT_REDIR_PROTOCOLS_STR, "https");
  curl_easy_setopt(handle.curl, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(handle.curl, CURLOPT_MAXREDIRS, kRedirectsMax);
  curl_easy_setopt(handle.curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle.curl, CURLOPT_FAILONERROR, 1L);
  curl_easy_setopt(handle.curl, CURLOPT_CONNECTTIMEOUT_MS, 5 * kConnectTimeoutMs);
  curl_easy_setopt(handle.curl, CURLOPT_LOW_SPEED_LIMIT, 1024L);
  curl_easy_setopt(handle.curl, CURLOPT_LOW_SPEED_TIME, kStalledSeconds);
  curl_easy_setopt(handle.curl, CURLOPT_WRITEFUNCTION, take_download);
  curl_easy_setopt(handle.curl, CURLOPT_WRITEDATA, &download);
  const CURLcode code = curl_easy_perform(handle.curl);
  if (code == CURLE_OK) return Ok{};
  long status = 0;
  curl_easy_getinfo(handle.curl, CURLINFO_RESPONSE_CODE, &status);
  return Err{url + ": " + (status >= 400 ? "HTTP " + std::to_string(status) : curl_easy_strerror(code))};
}

std::string HttpReply::header(std::string_view name) const {
  std::size_t begin = 0;
  while (begin < headers.size()) {
    std::size_t end = headers.find("\r\n", begin);
    if (end == std::string::npos) end = headers.size();
    const std::string_view line = std::string_view(headers).substr(begin, end - begin);
    begin = end + 2;
    if (line.size() <= name.size() || line[name.size()] != ':') continue;
    bool same = true;
    for (std::size_t i = 0; i < name.size() && same; ++i) {
      same = std::tolower(static_cast<unsigned char>(line[i])) == std::tolower(static_cast<unsigned char>(name[i]));
    }
    if (!same) continue;
    std::string_view value = line.substr(name.size() + 1);
    while (value.starts_with(' ')) value.remove_prefix(1);
    return std::string(value);
  }
  return {};
}

Result<HttpReply, std::string> http_get(const std::string& url, long timeout_ms) {
  return perform(url, nullptr, timeout_ms, nullptr);
}

Result<HttpReply, std::string> http_post(const std::string& url, const std::string& json, long timeout_ms) {
  return perform(url, &json, timeout_ms, nullptr);
}

Result<HttpReply, std::string> http_post_events(const std::string& url, const std::string& json,
                                                const std::function<bool(std::string_view data)>& on_data) {
  return perform(url, &json, 0, &on_data);
}

}  // namespace orch::cli
