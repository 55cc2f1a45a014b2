#include "common/grammar/json_tree.h"

#include <algorithm>
#include <set>

#include "common/grammar/code_points.h"
#include "common/grammar/limits.h"
#include "common/grammar/text_reader.h"

namespace orch::grammar {

namespace {

class JsonParser {
 public:
  explicit JsonParser(std::string_view text) : in_(text) {}

  Result<JsonTree, GrammarError> parse() {
    JsonTree out = value(0);
    skip_blanks();
    if (!in_.failed() && !in_.done()) in_.fail("there is more behind the JSON value");
    if (in_.failed()) return Err{in_.error()};
    return out;
  }

 private:
  void skip_blanks() {
    while (in_.peek() == ' ' || in_.peek() == '\t' || in_.peek() == '\n' || in_.peek() == '\r') in_.skip(1);
  }

  JsonTree value(std::size_t depth) {
    JsonTree out;
    skip_blanks();
    if (depth > kJsonDepthMax) {
      in_.fail("the JSON is nested deeper than " + std::to_string(kJsonDepthMax) + " levels");
    } else if (in_.take("{")) {
      out.kind = JsonKind::object;
      members(out, depth);
    } else if (in_.take("[")) {
      out.kind = JsonKind::array;
      items(out, depth);
    } else if (in_.take("\"")) {
      out.kind = JsonKind::string;
      out.text = string();
    } else if (in_.take("true")) {
      out.kind = JsonKind::boolean;
      out.truth = true;
    } else if (in_.take("false")) {
      out.kind = JsonKind::boolean;
    } else if (!in_.take("null")) {
      out.kind = JsonKind::number;
      out.text = number();
    }
    return out;
  }

  void items(JsonTree& out, std::size_t depth) {
    skip_blanks();
    if (in_.take("]")) return;
    do {
      out.items.push_back(value(depth + 1));
      skip_blanks();
    } while (!in_.failed() && in_.take(","));
    if (!in_.failed() && !in_.take("]")) in_.fail("a comma or ] belongs here");
  }

  void members(JsonTree& out, std::size_t depth) {
    std::set<std::string> names;
    skip_blanks();
    if (in_.take("}")) return;
    do {
      skip_blanks();
      const std::size_t begin = in_.position();
      if (!in_.take("\"")) return in_.fail("the name of a member belongs here");
      std::string name = string();
      if (!in_.failed() && !names.insert(name).second) in_.fail_at(begin, "a member of this name was there before");
      skip_blanks();
      if (!in_.failed() && !in_.take(":")) in_.fail("a colon belongs here");
      if (in_.failed()) return;
      JsonTree member = value(depth + 1);
      member.name = std::move(name);
      out.items.push_back(std::move(member));
      skip_blanks();
    } while (!in_.failed() && in_.take(","));
    if (!in_.failed() && !in_.take("}")) in_.fail("a comma or } belongs here");
  }

  // Behind the quote.
  std::string string() {
    std::string out;
    while (!in_.failed() && !in_.take("\"")) {
      if (in_.take("\\")) {
        append_escape(out);
        continue;
      }
      const std::uint32_t c = in_.code_point();
      if (c < 0x20 && !in_.failed()) in_.fail("a control character stands escaped in a string");
      if (!in_.failed()) out += spelled(c, Spelling::plain);
    }
    return out;
  }

  void append_escape(std::string& out) {
    static constexpr std::string_view kNames = "\"\\/bfnrt";
    static constexpr std::string_view kValues = "\"\\/\b\f\n\r\t";
    if (!in_.done()) {
      if (const auto at = kNames.find(in_.peek()); at != std::string_view::npos) {
        in_.skip(1);
        out.push_back(kValues[at]);
        return;
      }
    }
    if (!in_.take("u")) return in_.fail("JSON has no such escape");
    std::uint32_t c = surrogate_or_code_point();
    if (c >= 0xD800 && c <= 0xDBFF && in_.take("\\u")) {
      const std::uint32_t low = surrogate_or_code_point();
      if (low < 0xDC00 || low > 0xDFFF) return in_.fail("a lone surrogate");
      c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    }
    if (c >= 0xD800 && c <= 0xDFFF) return in_.fail("a lone surrogate");
    if (!in_.failed()) out += spelled(c, Spelling::plain);
  }

  std::uint32_t surrogate_or_code_point() {
    // Two and two digits: a half of a pair is no code point yet.
    const std::uint32_t high = in_.hexadecimal(2);
    return (high << 8) | in_.hexadecimal(2);
  }

  bool take_digits(std::string& out) {
    const std::size_t before = out.size();
    while (in_.peek() >= '0' && in_.peek() <= '9') {
      out.push_back(in_.peek());
      in_.skip(1);
    }
    return out.size() > before;
  }

  std::string number() {
    const std::size_t begin = in_.position();
    std::string out;
    if (in_.take("-")) out.push_back('-');
    const std::size_t first = out.size();
    bool good = take_digits(out) && (out[first] != '0' || out.size() == first + 1);
    if (good && in_.take(".")) {
      out.push_back('.');
      good = take_digits(out);
    }
    if (good && (in_.take("e") || in_.take("E"))) {
      out.push_back('e');
      if (in_.take("-")) {
        out.push_back('-');
      } else {
        in_.take("+");
      }
      good = take_digits(out);
    }
    if (!good) in_.fail_at(begin, "no JSON value begins here");
    return out;
  }

  TextReader in_;
};

}  // namespace

const JsonTree* JsonTree::member(std::string_view wanted) const {
  if (kind != JsonKind::object) return nullptr;
  const auto found =
      std::find_if(items.begin(), items.end(), [&](const JsonTree& item) { return item.name == wanted; });
  return found == items.end() ? nullptr : &*found;
}

Result<JsonTree, GrammarError> parse_json(std::string_view text) {
  if (text.size() > kTextBytesMax) {
    return Err{GrammarError{
        "", "the schema has " + std::to_string(text.size()) + " bytes; at most " + std::to_string(kTextBytesMax)}};
  }
  return JsonParser(text).parse();
}

void append_json_text(std::string& out, std::string_view text) {
  out.push_back('"');
  for (std::size_t at = 0; at < text.size();) {
    const auto c = next_code_point(text, at);
    if (!c) break;  // parse_json() lets no such text in
    out += spelled(*c, Spelling::json_string);
  }
  out.push_back('"');
}

void append_json(std::string& out, const JsonTree& tree) {
  switch (tree.kind) {
    case JsonKind::null:
      out += "null";
      return;
    case JsonKind::boolean:
      out += tree.truth ? "true" : "false";
      return;
    case JsonKind::number:
      out += tree.text;
      return;
    case JsonKind::string:
      return append_json_text(out, tree.text);
    case JsonKind::array:
      out.push_back('[');
      for (std::size_t i = 0; i < tree.items.size(); ++i) {
        if (i > 0) out.push_back(',');
        append_json(out, tree.items[i]);
      }
      out.push_back(']');
      return;
    case JsonKind::object:
      out.push_back('{');
      for (std::size_t i = 0; i < tree.items.size(); ++i) {
        if (i > 0) out.push_back(',');
        append_json_text(out, tree.items[i].name);
        out.push_back(':');
        append_json(out, tree.items[i]);
      }
      out.push_back('}');
  }
}

}  // namespace orch::grammar
