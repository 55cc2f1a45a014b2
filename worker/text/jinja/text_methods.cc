// Methods of strings. Every result takes the provenance of the bytes it is made of. Case mapping is ASCII only.
#include <algorithm>
#include <array>

#include "worker/text/jinja/builtins.h"
#include "worker/text/unicode_class.h"
#include "worker/text/utf8.h"

namespace orch::worker::jinja {

namespace {

constexpr std::array<std::string_view, 16> kMethods = {
    "strip", "lstrip",     "rstrip",     "split",    "rsplit",  "splitlines", "upper", "lower",
    "title", "capitalize", "startswith", "endswith", "replace", "find",       "count", "join"};

bool is_space(std::uint32_t code_point) {
  return unicode_class(code_point) == UnicodeClass::space || (code_point >= 0x1C && code_point <= 0x1F);
}

char upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c & 0x80) != 0; }

Text map_case(const Text& self, std::string_view name) {
  Text out = self;
  bool first = true;  // of the text, or of a word
  for (char& c : out.bytes) {
    if (name == "upper" || ((name == "title" || name == "capitalize") && first))
      c = upper(c);
    else
      c = lower(c);
    first = name == "title" ? !is_letter(c) : false;
  }
  return out;
}

const Text* text_argument(const CallArguments& arguments, std::size_t index, std::string_view name) {
  const Value* value = arguments.get(index, name);
  return value == nullptr ? nullptr : value->text();
}

Value split(const Text& self, const CallArguments& arguments, bool from_right, Budget& budget) {
  const Text* separator = text_argument(arguments, 0, "sep");
  const Value* count = arguments.get(1, "maxsplit");
  const std::int64_t limit = count == nullptr ? -1 : count->as_integer();
  if (!budget.charge(self.size() * 2)) return {};
  List out;
  if (separator == nullptr) {  // runs of white space
    Text rest = strip(self, {}, true, true);
    while (rest.size() > 0) {
      std::size_t end = 0;
      while (end < rest.size()) {
        const Utf8Step step = utf8_step(rest.bytes, end);
        if (is_space(step.code_point)) break;
        end += step.bytes;
      }
      if (limit >= 0 && static_cast<std::int64_t>(out.size()) == limit) end = rest.size();
      if (!budget.charge(rest.size() + kTextItemBytes)) return {};
      out.push_back(Value::text(rest.slice(0, end)));
      rest = strip(rest.slice(end, std::string::npos), {}, true, false);
    }
    return Value::list(std::move(out));
  }
  if (separator->size() == 0) {
    budget.fail("split: the separator is empty");
    return {};
  }
  if (!charge_search(self, *separator, budget)) return {};
  std::size_t from = 0;
  std::size_t to = self.size();
  const auto may_split = [&] { return limit < 0 || static_cast<std::int64_t>(out.size()) < limit; };
  if (from_right) {
    while (may_split() && to >= separator->size() && budget.charge(kTextItemBytes)) {
      const std::size_t found = self.bytes.rfind(separator->bytes, to - separator->size());
      if (found == std::string::npos) break;
      out.push_back(Value::text(self.slice(found + separator->size(), to - found - separator->size())));
      to = found;
    }
    out.push_back(Value::text(self.slice(0, to)));
    std::reverse(out.begin(), out.end());
    return Value::list(std::move(out));
  }
  while (may_split() && budget.charge(kTextItemBytes)) {
    const std::size_t found = self.bytes.find(separator->bytes, from);
    if (found == std::string::npos) break;
    out.push_back(Value::text(self.slice(from, found - from)));
    from = found + separator->size();
  }
  out.push_back(Value::text(self.slice(from, std::string::npos)));
  return Value::list(std::move(out));
}

Value split_lines(const Text& self, Budget& budget) {
  List out;
  for (std::size_t from = 0; from < self.size() && budget.charge(kTextItemBytes);) {
    const std::size_t end = std::min(self.bytes.find_first_of("\r\n", from), self.size());
    out.push_back(Value::text(self.slice(from, end - from)));
    from = end + (self.bytes.compare(end, 2, "\r\n") == 0 ? 2 : 1);
  }
  return Value::list(std::move(out));
}

Value replace(const Text& self, const CallArguments& arguments, Budget& budget) {
  const Text* from = text_argument(arguments, 0, "old");
  const Text* to = text_argument(arguments, 1, "new");
  const Value* count = arguments.get(2, "count");
  if (from == nullptr || to == nullptr || from->size() == 0) {
    budget.fail("replace takes a non-empty text and its replacement");
    return {};
  }
  if (!charge_search(self, *from, budget)) return {};
  std::int64_t left = count == nullptr ? -1 : count->as_integer();
  Text out;
  std::size_t at = 0;
  for (std::size_t found; left != 0 && (found = self.bytes.find(from->bytes, at)) != std::string::npos; --left) {
    if (!budget.charge(found - at + to->size() + 1)) return {};
    out.append(self.slice(at, found - at));
    out.append(*to);
    at = found + from->size();
  }
  if (!budget.charge(self.size() - at)) return {};
  out.append(self.slice(at, std::string::npos));
  return Value::text(std::move(out));
}

// startswith and endswith also take a tuple of texts.
bool has_edge(const Text& self, const Value* edges, bool at_start, Budget& budget) {
  const auto is_edge = [&](const Value& edge) {
    const Text* text = edge.text();
    if (text == nullptr || !budget.charge(text->size() + 1)) return false;
    return at_start ? self.bytes.starts_with(text->bytes) : self.bytes.ends_with(text->bytes);
  };
  if (edges == nullptr) return false;
  if (const List* several = edges->list()) return std::any_of(several->begin(), several->end(), is_edge);
  return is_edge(*edges);
}

Value find(const Text& self, const Text* what, Budget& budget) {
  if (what != nullptr && !charge_search(self, *what, budget)) return {};
  const std::size_t found = what == nullptr ? std::string::npos : self.bytes.find(what->bytes);
  if (found == std::string::npos) return Value::integer(-1);
  const auto is_start = [](char c) { return (c & 0xC0) != 0x80; };
  return Value::integer(
      std::count_if(self.bytes.begin(), self.bytes.begin() + static_cast<std::ptrdiff_t>(found), is_start));
}

Value count(const Text& self, const Text* what, Budget& budget) {
  if (what == nullptr || what->size() == 0 || !charge_search(self, *what, budget)) return Value::integer(0);
  std::int64_t out = 0;
  for (std::size_t at = 0; (at = self.bytes.find(what->bytes, at)) != std::string::npos; at += what->size()) ++out;
  return Value::integer(out);
}

}  // namespace

std::vector<std::size_t> code_point_offsets(const std::string& bytes) {
  std::vector<std::size_t> out;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if ((bytes[i] & 0xC0) != 0x80) out.push_back(i);
  }
  out.push_back(bytes.size());
  return out;
}

Text strip(const Text& text, std::string_view characters, bool left, bool right) {
  const auto goes = [&](std::size_t at, std::size_t bytes) {
    if (characters.empty()) return is_space(utf8_step(text.bytes, at).code_point);
    return characters.find(std::string_view(text.bytes).substr(at, bytes)) != std::string_view::npos;
  };
  std::size_t from = 0;
  std::size_t to = text.size();
  while (left && from < to) {
    const std::size_t bytes = utf8_step(text.bytes, from).bytes;
    if (!goes(from, bytes)) break;
    from += bytes;
  }
  while (right && to > from) {
    std::size_t start = to - 1;
    while (start > from && (text.bytes[start] & 0xC0) == 0x80) --start;
    if (!goes(start, to - start)) break;
    to = start;
  }
  return text.slice(from, to - from);
}

bool is_text_method(std::string_view name) {
  return std::find(kMethods.begin(), kMethods.end(), name) != kMethods.end();
}

Value call_text_method(const Text& self, std::string_view name, const CallArguments& arguments, Budget& budget) {
  if (!budget.charge(self.size())) return {};
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    const Text* characters = text_argument(arguments, 0, "chars");
    const std::string_view set = characters == nullptr ? std::string_view{} : std::string_view(characters->bytes);
    return Value::text(strip(self, set, name != "rstrip", name != "lstrip"));
  }
  if (name == "split" || name == "rsplit") return split(self, arguments, name == "rsplit", budget);
  if (name == "splitlines") return split_lines(self, budget);
  if (name == "startswith" || name == "endswith") {
    return Value::boolean(has_edge(self, arguments.get(0, "prefix"), name == "startswith", budget));
  }
  if (name == "replace") return replace(self, arguments, budget);
  if (name == "find") return find(self, text_argument(arguments, 0, "sub"), budget);
  if (name == "count") return count(self, text_argument(arguments, 0, "sub"), budget);
  if (name == "join") {
    const Value* list = arguments.get(0, "iterable");
    CallArguments separator;
    separator.positional.push_back(Value::text(self));
    return apply_filter("join", list == nullptr ? Value() : *list, separator, budget);
  }
  return Value::text(map_case(self, name));
}

}  // namespace orch::worker::jinja
