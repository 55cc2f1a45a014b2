#include "contracts/config_reader.h"

#include <algorithm>
#include <charconv>
#include <set>

namespace orch::config {
namespace {

constexpr std::size_t kDocumentBytesMax = 1 << 20;
constexpr std::size_t kSocketPathBytesMax = 107;  // sun_path less its NUL

bool is_plain(const YAML::Node& node) { return node.Tag() == "?"; }

// YAML's core schema gives a plain scalar one of these types; such a scalar is not a string unless quoted.
bool reads_as_other_type(const std::string& text) {
  static const std::set<std::string, std::less<>> words{"",     "~",    "null",  "Null",  "NULL", "true",
                                                        "True", "TRUE", "false", "False", "FALSE"};
  if (words.contains(text)) return true;
  double number = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  return failure == std::errc{} && end == text.data() + text.size();
}

std::string describe(const YAML::Node& node) {
  if (node.IsMap()) return "a mapping";
  if (node.IsSequence()) return "a list";
  if (node.IsNull()) return "empty";
  constexpr std::size_t kShown = 60;
  const std::string& text = node.Scalar();
  return "\"" + (text.size() <= kShown ? text : text.substr(0, kShown) + "...") + "\"";
}

bool all_of(std::string_view text, std::string_view allowed_extra) {
  return std::all_of(text.begin(), text.end(), [allowed_extra](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           allowed_extra.find(c) != std::string_view::npos;
  });
}

bool is_lower_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

// Decimal digits without sign or leading zeros.
bool is_number_up_to(std::string_view text, std::uint64_t limit) {
  std::uint64_t value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  return !text.empty() && failure == std::errc{} && end == text.data() + text.size() && value <= limit &&
         (text.size() == 1 || text.front() != '0');
}

bool is_unix_address(std::string_view text) {
  constexpr std::string_view kScheme = "unix:";
  if (!text.starts_with(kScheme)) return false;
  const std::string_view path = text.substr(kScheme.size());
  return path.size() > 1 && path.front() == '/' && path.size() <= kSocketPathBytesMax;
}

bool is_ipv4(std::string_view text) {
  for (int part = 0; part < 4; ++part) {
    const std::size_t dot = part < 3 ? text.find('.') : text.size();
    if (dot == std::string_view::npos || !is_number_up_to(text.substr(0, dot), 255)) return false;
    text.remove_prefix(part < 3 ? dot + 1 : dot);
  }
  return text.empty();
}

struct HostPort {
  std::string_view host;
  std::string_view port;
};
std::optional<HostPort> split_host_port(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return std::nullopt;
  return HostPort{text.substr(0, colon), text.substr(colon + 1)};
}

// Listening needs a literal address; a client may use a host name.
bool is_listen(std::string_view text) {
  if (is_unix_address(text)) return true;
  const auto parts = split_host_port(text);
  return parts && is_number_up_to(parts->port, 65535) &&
         (is_ipv4(parts->host) || parts->host == "[::1]" || parts->host == "[::]");
}

bool is_endpoint(std::string_view text) {
  if (is_unix_address(text)) return true;
  const auto parts = split_host_port(text);
  return parts && parts->port != "0" && is_number_up_to(parts->port, 65535) &&
         (parts->host == "[::1]" || (parts->host.size() <= 253 && all_of(parts->host, ".-")));
}

bool is_device(std::string_view text) {
  constexpr std::string_view kPrefix = "vulkan:";
  if (text == "auto" || text == "cpu" || text == "vulkan") return true;
  if (!text.starts_with(kPrefix)) return false;
  const std::string_view which = text.substr(kPrefix.size());
  return is_number_up_to(which, 255) || (which.size() == 32 && is_lower_hex(which)) ||
         (which.size() == 36 && all_of(which, "-"));
}

bool is_url(std::string_view text) {
  for (const std::string_view scheme : {std::string_view("http://"), std::string_view("https://")}) {
    if (text.starts_with(scheme))
      return text.size() > scheme.size() && all_of(text, ":/.-_[]~%") && text.size() <= 2048;
  }
  return false;
}

bool is_path(std::string_view text) {
  return !text.empty() && text.size() <= 4096 &&
         std::none_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; });
}

bool is_digest(std::string_view text) {
  constexpr std::string_view kPrefix = "sha256:";
  return text.starts_with(kPrefix) && text.size() == kPrefix.size() + 64 && is_lower_hex(text.substr(kPrefix.size()));
}

std::string at_line(const YAML::Node& node) {
  return node.Mark().is_null() ? "" : " (line " + std::to_string(node.Mark().line + 1) + ")";
}

}  // namespace

std::optional<std::string> format_violation(Format format, std::string_view text) {
  const auto unless = [](bool holds, std::string must) -> std::optional<std::string> {
    return holds ? std::nullopt : std::optional<std::string>(std::move(must));
  };
  switch (format) {
    case Format::any:
      return std::nullopt;
    case Format::path:
      return unless(is_path(text), "must be a path of 1 to 4096 bytes without control characters");
    case Format::listen:
      return unless(is_listen(text), "must be unix:/PATH (at most 107 bytes) or ADDRESS:PORT with port 0..65535");
    case Format::endpoint:
      return unless(is_endpoint(text), "must be unix:/PATH (at most 107 bytes) or HOST:PORT with port 1..65535");
    case Format::name:
      return unless(!text.empty() && text.size() <= 128 && all_of(text, "._-"),
                    "must be 1 to 128 letters, digits, '.', '_' or '-'");
    case Format::digest:
      return unless(is_digest(text), "must be sha256: and 64 lower-case hex digits");
    case Format::device:
      return unless(is_device(text), "must be auto, cpu, vulkan, vulkan:INDEX (0..255) or vulkan:UUID");
    case Format::url:
      return unless(is_url(text), "must be an http:// or https:// URL of at most 2048 bytes");
  }
  return std::nullopt;
}

bool is_loopback(std::string_view listen) {
  return listen.starts_with("unix:") || listen.starts_with("127.") || listen.starts_with("[::1]:");
}

Section::Section(ErrorSink& sink, const YAML::Node& node, std::string path,
                 std::initializer_list<std::string_view> known)
    : sink_(sink), node_(node), path_(std::move(path)) {
  if (!node_.IsDefined()) return;
  if (!node_.IsMap()) {
    sink_.report(path_, "must be a mapping, is " + describe(node_) + at_line(node_));
    node_.reset();
    return;
  }
  std::set<std::string> seen;
  for (const auto& entry : node_) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : describe(entry.first);
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      std::string names;
      for (const std::string_view name : known) names += (names.empty() ? "" : ", ") + std::string(name);
      sink_.report(path_of(key), "unknown key" + at_line(entry.first) + "; known here: " + names);
    } else if (!seen.insert(key).second) {
      sink_.report(path_of(key), "given twice" + at_line(entry.first));
    }
  }
}

YAML::Node Section::child(std::string_view key) const {
  if (!node_.IsDefined() || !node_.IsMap()) return YAML::Node(YAML::NodeType::Undefined);
  return node_[std::string(key)];
}

std::string Section::path_of(std::string_view key) const {
  return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
}

void Section::refuse(std::string_view key, std::string message) {
  sink_.report(path_of(key), std::move(message) + at_line(child(key)));
}

bool Section::present(std::string_view key, Need need) {
  if (child(key).IsDefined()) return true;
  if (need == Need::required) sink_.report(path_of(key), "is required and missing");
  return false;
}

void Section::text(std::string_view key, Need need, Format format, std::string& out) {
  if (!present(key, need)) return;
  const YAML::Node node = child(key);
  if (!node.IsScalar() || (is_plain(node) && reads_as_other_type(node.Scalar()))) {
    refuse(key, "must be a string, is " + describe(node));
  } else if (const auto violation = format_violation(format, node.Scalar())) {
    refuse(key, *violation + ", is " + describe(node));
  } else {
    out = node.Scalar();
  }
}

void Section::flag(std::string_view key, Need need, bool& out) {
  if (!present(key, need)) return;
  const YAML::Node node = child(key);
  if (!node.IsScalar() || !is_plain(node) || (node.Scalar() != "true" && node.Scalar() != "false")) {
    refuse(key, "must be true or false, is " + describe(node));
  } else {
    out = node.Scalar() == "true";
  }
}

void Section::texts(std::string_view key, Need need, Format format, ListSize size, std::vector<std::string>& out) {
  if (!sized_list(key, need, size)) return;
  const YAML::Node list = child(key);
  for (std::size_t i = 0; i < list.size(); ++i) {
    const std::string path = path_of(key) + "[" + std::to_string(i) + "]";
    if (!list[i].IsScalar() || (is_plain(list[i]) && reads_as_other_type(list[i].Scalar()))) {
      sink_.report(path, "must be a string, is " + describe(list[i]) + at_line(list[i]));
    } else if (const auto violation = format_violation(format, list[i].Scalar())) {
      sink_.report(path, *violation + ", is " + describe(list[i]) + at_line(list[i]));
    } else {
      out.push_back(list[i].Scalar());
    }
  }
}

void Section::items(std::string_view key, Need need, ListSize size,
                    const std::function<void(const YAML::Node&, const std::string&)>& read) {
  if (!sized_list(key, need, size)) return;
  const YAML::Node list = child(key);
  for (std::size_t i = 0; i < list.size(); ++i) read(list[i], path_of(key) + "[" + std::to_string(i) + "]");
}

bool Section::sized_list(std::string_view key, Need need, ListSize size) {
  if (!present(key, need)) return false;
  const YAML::Node list = child(key);
  if (!list.IsSequence()) {
    refuse(key, "must be a list, is " + describe(list));
    return false;
  }
  if (list.size() < size.min || list.size() > size.max) {
    refuse(key, "must have " + std::to_string(size.min) + ".." + std::to_string(size.max) + " items, has " +
                    std::to_string(list.size()));
    return false;
  }
  return true;
}

std::optional<std::uint64_t> Section::read_integer(std::string_view key, Need need, IntRange range) {
  if (!present(key, need)) return std::nullopt;
  const YAML::Node node = child(key);
  const std::string must =
      "must be an integer " + std::to_string(range.min) + ".." + std::to_string(range.max) + ", is ";
  const bool plain = node.IsScalar() && is_plain(node);
  std::uint64_t value = 0;
  if (!plain || !is_number_up_to(node.Scalar(), range.max)) {
    refuse(key, must + describe(node));
    return std::nullopt;
  }
  std::from_chars(node.Scalar().data(), node.Scalar().data() + node.Scalar().size(), value);
  if (value < range.min) {
    refuse(key, must + describe(node));
    return std::nullopt;
  }
  return value;
}

std::optional<std::string> Section::read_choice(std::string_view key, Need need, const std::string& names) {
  if (!present(key, need)) return std::nullopt;
  const YAML::Node node = child(key);
  if (!node.IsScalar()) {
    refuse(key, "must be one of " + names + ", is " + describe(node));
    return std::nullopt;
  }
  return node.Scalar();
}

std::optional<ConfigError> read_document(const std::string& yaml_text,
                                         const std::function<void(ErrorSink&, const YAML::Node&)>& read) {
  if (yaml_text.size() > kDocumentBytesMax) {
    return ConfigError{"", "the document must be at most 1048576 bytes, is " + std::to_string(yaml_text.size())};
  }
  ErrorSink sink;
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(yaml_text);
    if (documents.size() != 1) {
      return ConfigError{"", "must be exactly one YAML document, has " + std::to_string(documents.size())};
    }
    read(sink, documents.front());
  } catch (const YAML::Exception& failure) {
    return ConfigError{"", std::string("not valid YAML: ") + failure.what()};
  }
  return sink.error();
}

}  // namespace orch::config
