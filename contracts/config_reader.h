// Reads one YAML document strictly (OC-CONFIG-6001): the generated parsers in gen/config_*.cc are written in terms of
// this. The first error wins and the rest of the document is still walked harmlessly. Keep yaml-cpp out of other
// headers.
#pragma once

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "contracts/config_error.h"

namespace orch::config {

enum class Need : std::uint8_t { required, optional };
enum class Format : std::uint8_t { any, path, listen, endpoint, name, digest, device, url };

struct IntRange {
  std::uint64_t min = 0;
  std::uint64_t max = 0;
};
struct ListSize {
  std::size_t min = 0;
  std::size_t max = 0;
};

// The one error of a document, shared by all its sections.
class ErrorSink {
 public:
  void report(std::string path, std::string message) {
    if (!error_) error_ = ConfigError{std::move(path), std::move(message)};
  }
  const std::optional<ConfigError>& error() const { return error_; }

 private:
  std::optional<ConfigError> error_;
};

// One mapping of the document. A value type that borrows the sink; lives for one call of a generated reader.
class Section {
 public:
  // Reports a node that is no mapping, a key not in `known`, and a key given twice. An undefined node reads as an empty
  // mapping, so that missing required keys inside it are named.
  Section(ErrorSink& sink, const YAML::Node& node, std::string path, std::initializer_list<std::string_view> known);

  void text(std::string_view key, Need need, Format format, std::string& out);
  void flag(std::string_view key, Need need, bool& out);
  void texts(std::string_view key, Need need, Format format, ListSize size, std::vector<std::string>& out);

  template <typename T>
  void integer(std::string_view key, Need need, IntRange range, T& out) {
    if (const auto value = read_integer(key, need, range)) out = static_cast<T>(*value);
  }
  template <typename E>
  void choice(std::string_view key, Need need, std::initializer_list<std::pair<std::string_view, E>> values, E& out) {
    std::string names;
    for (const auto& [name, value] : values) names += (names.empty() ? "" : ", ") + std::string(name);
    const std::optional<std::string> text = read_choice(key, need, names);
    if (!text) return;
    for (const auto& [name, value] : values) {
      if (name == *text) {
        out = value;
        return;
      }
    }
    refuse(key, "must be one of " + names + ", is \"" + *text + "\"");
  }
  // Reads each item of a list of mappings with `read(item, path)`, which appends it.
  void items(std::string_view key, Need need, ListSize size,
             const std::function<void(const YAML::Node&, const std::string&)>& read);

  YAML::Node child(std::string_view key) const;
  std::string path_of(std::string_view key) const;

 private:
  std::optional<std::uint64_t> read_integer(std::string_view key, Need need, IntRange range);
  std::optional<std::string> read_choice(std::string_view key, Need need, const std::string& names);
  bool present(std::string_view key, Need need);
  bool sized_list(std::string_view key, Need need, ListSize size);
  void refuse(std::string_view key, std::string message);

  ErrorSink& sink_;
  YAML::Node node_;
  std::string path_;
};

// Parses `yaml_text` (at most 1 MiB, exactly one document) and calls `read` with its root; returns the first error.
std::optional<ConfigError> read_document(const std::string& yaml_text,
                                         const std::function<void(ErrorSink&, const YAML::Node&)>& read);

// nullopt when `text` has the format, else what it must be.
std::optional<std::string> format_violation(Format format, std::string_view text);

// True for Unix sockets and for addresses only this host can reach.
bool is_loopback(std::string_view listen);

}  // namespace orch::config
