#include "worker/text/jinja/value.h"

#include <array>
#include <charconv>
#include <cmath>
#include <iterator>

namespace orch::worker::jinja {

const Value* Map::find(std::string_view key) const {
  for (const auto& [name, value] : entries) {
    if (name == key) return &value;
  }
  return nullptr;
}

void Map::set(std::string_view key, Value value) {
  for (auto& [name, slot] : entries) {
    if (name == key) {
      slot = std::move(value);
      return;
    }
  }
  entries.emplace_back(std::string(key), std::move(value));
}

namespace {

// The containers whose turn is still to come while this thread ends one. A list in a list in a list would otherwise end
// in as many nested destructors, and a template can nest deeper than a stack is.
thread_local List* waiting_to_end = nullptr;

void end_one_by_one(List values) {
  if (waiting_to_end != nullptr) {
    waiting_to_end->insert(waiting_to_end->end(), std::make_move_iterator(values.begin()),
                           std::make_move_iterator(values.end()));
    return;
  }
  waiting_to_end = &values;
  while (!values.empty()) {
    const Value last = std::move(values.back());
    values.pop_back();  // the destructor of `last` may append
  }
  waiting_to_end = nullptr;
}

void end_list(List* list) {
  List inner;
  for (Value& value : *list) {
    if (value.is_container()) inner.push_back(std::move(value));
  }
  delete list;
  if (!inner.empty()) end_one_by_one(std::move(inner));
}

void end_map(Map* map) {
  List inner;
  for (auto& [key, value] : map->entries) {
    if (value.is_container()) inner.push_back(std::move(value));
  }
  delete map;
  if (!inner.empty()) end_one_by_one(std::move(inner));
}

}  // namespace

Value Value::list(List value) { return Value(std::shared_ptr<List>(new List(std::move(value)), end_list)); }
Value Value::map(Map value) { return Value(std::shared_ptr<Map>(new Map(std::move(value)), end_map)); }

double Value::as_real() const {
  if (const auto* real_value = get<double>()) return *real_value;
  return static_cast<double>(as_integer());
}

std::int64_t Value::as_integer() const {
  if (const auto* flag = get<bool>()) return *flag ? 1 : 0;
  const auto* integer_value = get<std::int64_t>();
  return integer_value == nullptr ? 0 : *integer_value;
}

bool Value::truthy() const {
  if (is_undefined() || is_none()) return false;
  if (is_number()) return as_real() != 0;
  if (const Text* value = text()) return value->size() != 0;
  if (const List* value = list()) return !value->empty();
  if (const Map* value = map()) return value->is_namespace || !value->entries.empty();
  return true;
}

std::string_view Value::type_name() const {
  static constexpr std::array<std::string_view, 10> kNames = {"undefined", "none", "bool", "int",   "float",
                                                              "string",    "list", "dict", "macro", "function"};
  return kNames[value_.index()];
}

namespace {

// Shared containers can unfold to exponential size; both walks below end early instead.
constexpr std::size_t kPrintBytesMax = 16u << 20;
constexpr std::uint64_t kCompareNodeBytes = 16;

bool take(std::uint64_t& allowance, std::uint64_t bytes) {
  if (bytes >= allowance) {
    allowance = 0;
    return false;
  }
  allowance -= bytes;
  return true;
}

bool equal_within(const Value& a, const Value& b, int depth, std::uint64_t& allowance);

bool equal_lists(const List& a, const List& b, int depth, std::uint64_t& allowance) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!equal_within(a[i], b[i], depth + 1, allowance)) return false;
  }
  return true;
}

bool equal_maps(const Map& a, const Map& b, int depth, std::uint64_t& allowance) {
  if (a.entries.size() != b.entries.size()) return false;
  for (const auto& [key, value] : a.entries) {
    if (!take(allowance, b.entries.size())) return false;
    const Value* other = b.find(key);
    if (other == nullptr || !equal_within(value, *other, depth + 1, allowance)) return false;
  }
  return true;
}

bool equal_within(const Value& a, const Value& b, int depth, std::uint64_t& allowance) {
  if (depth > kValueDepthMax || !take(allowance, kCompareNodeBytes)) return false;
  if (a.is_number() && b.is_number()) {
    if (a.get<double>() || b.get<double>()) return a.as_real() == b.as_real();
    return a.as_integer() == b.as_integer();
  }
  if (a.is_undefined() || a.is_none()) return a.type_name() == b.type_name();
  if (a.text() && b.text()) {
    if (a.text()->size() != b.text()->size()) return false;
    return take(allowance, a.text()->size()) && a.text()->bytes == b.text()->bytes;
  }
  if (a.list() && b.list()) return equal_lists(*a.list(), *b.list(), depth, allowance);
  if (a.map() && b.map()) return equal_maps(*a.map(), *b.map(), depth, allowance);
  return false;
}

}  // namespace

bool equal(const Value& a, const Value& b, std::uint64_t& allowance) { return equal_within(a, b, 0, allowance); }

namespace {

void put(Text& out, std::string_view text) { out.append(Text::trusted(text)); }

// Quoted as Python's repr does for printable text.
void print_quoted(const Text& text, Text& out) {
  const bool has_single = text.bytes.find('\'') != std::string::npos;
  const char quote = has_single && text.bytes.find('"') == std::string::npos ? '"' : '\'';
  put(out, std::string(1, quote));
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text.bytes[i];
    std::string piece(1, c);
    if (c == '\n') piece = "\\n";
    if (c == '\t') piece = "\\t";
    if (c == '\r') piece = "\\r";
    if (c == '\\' || c == quote) piece = std::string("\\") + c;
    out.append({piece, std::string(piece.size(), text.mask[i])});
  }
  put(out, std::string(1, quote));
}

void print_json_string(const Text& text, Text& out) {
  static constexpr char kHex[] = "0123456789abcdef";
  put(out, "\"");
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text.bytes[i];
    std::string piece(1, c);
    switch (c) {
      case '"':
        piece = "\\\"";
        break;
      case '\\':
        piece = "\\\\";
        break;
      case '\n':
        piece = "\\n";
        break;
      case '\r':
        piece = "\\r";
        break;
      case '\t':
        piece = "\\t";
        break;
      case '\b':
        piece = "\\b";
        break;
      case '\f':
        piece = "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          piece = std::string("\\u00") + kHex[(c >> 4) & 15] + kHex[c & 15];
        }
    }
    out.append({piece, std::string(piece.size(), text.mask[i])});
  }
  put(out, "\"");
}

void new_line(int indent, int depth, Text& out) {
  if (indent >= 0) put(out, "\n" + std::string(static_cast<std::size_t>(indent * depth), ' '));
}

}  // namespace

std::string real_to_string(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 64> buffer{};
  const double size = std::fabs(value);
  // Python's repr: positional for exponents from -4 to 15.
  const bool positional = size == 0 || (size >= 1e-4 && size < 1e16);
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                 positional ? std::chars_format::fixed : std::chars_format::scientific);
  std::string out(buffer.data(), end.ptr);
  if (positional && out.find('.') == std::string::npos) out += ".0";
  return out;
}

void print(const Value& value, Print form, Text& out, int depth) {
  if (depth > kValueDepthMax || out.size() > kPrintBytesMax) return put(out, "...");
  if (value.is_undefined()) return;
  if (value.is_none()) return put(out, "None");
  if (const auto* flag = value.get<bool>()) return put(out, *flag ? "True" : "False");
  if (const auto* number = value.get<std::int64_t>()) return put(out, std::to_string(*number));
  if (const auto* number = value.get<double>()) return put(out, real_to_string(*number));
  if (const Text* text = value.text()) {
    if (form == Print::repr) return print_quoted(*text, out);
    return out.append(*text);
  }
  if (const List* list = value.list()) {
    put(out, "[");
    for (std::size_t i = 0; i < list->size(); ++i) {
      if (i > 0) put(out, ", ");
      print((*list)[i], Print::repr, out, depth + 1);
    }
    return put(out, "]");
  }
  if (const Map* map = value.map()) {
    put(out, "{");
    for (std::size_t i = 0; i < map->entries.size(); ++i) {
      if (i > 0) put(out, ", ");
      print_quoted(Text::trusted(map->entries[i].first), out);
      put(out, ": ");
      print(map->entries[i].second, Print::repr, out, depth + 1);
    }
    return put(out, "}");
  }
  put(out, "<function>");
}

void print_json(const Value& value, int indent, Text& out, int depth) {
  if (depth > kValueDepthMax || out.size() > kPrintBytesMax) return put(out, "null");
  if (value.is_undefined() || value.is_none()) return put(out, "null");
  if (const auto* flag = value.get<bool>()) return put(out, *flag ? "true" : "false");
  if (value.is_number()) return print(value, Print::display, out, depth);
  if (const Text* text = value.text()) return print_json_string(*text, out);
  const std::string_view separator = indent < 0 ? ", " : ",";
  if (const List* list = value.list()) {
    if (list->empty()) return put(out, "[]");
    put(out, "[");
    for (std::size_t i = 0; i < list->size(); ++i) {
      if (i > 0) put(out, separator);
      new_line(indent, depth + 1, out);
      print_json((*list)[i], indent, out, depth + 1);
    }
    new_line(indent, depth, out);
    return put(out, "]");
  }
  if (const Map* map = value.map()) {
    if (map->entries.empty()) return put(out, "{}");
    put(out, "{");
    for (std::size_t i = 0; i < map->entries.size(); ++i) {
      if (i > 0) put(out, separator);
      new_line(indent, depth + 1, out);
      print_json_string(Text::trusted(map->entries[i].first), out);
      put(out, ": ");
      print_json(map->entries[i].second, indent, out, depth + 1);
    }
    new_line(indent, depth, out);
    return put(out, "}");
  }
  put(out, "null");
}

}  // namespace orch::worker::jinja
