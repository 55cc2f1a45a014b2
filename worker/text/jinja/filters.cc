// Filters and tests by name.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "worker/text/jinja/builtins.h"

namespace orch::worker::jinja {

namespace {

Value attribute_of(const Value& item, const Value& path, Budget& budget) {
  if (path.text() == nullptr) return subscript(item, path, budget);
  Value out = item;
  const std::string& names = path.text()->bytes;
  for (std::size_t from = 0; from <= names.size();) {
    const std::size_t end = std::min(names.find('.', from), names.size());
    if (out.is_undefined()) return out;
    out = subscript(out, Value::trusted(names.substr(from, end - from)), budget);
    from = end + 1;
  }
  return out;
}

CallArguments tail_of(const CallArguments& arguments, std::size_t from) {
  CallArguments out;
  if (arguments.positional.size() > from) {
    out.positional.assign(arguments.positional.begin() + static_cast<std::ptrdiff_t>(from), arguments.positional.end());
  }
  return out;
}

Value map_items(const Value& self, const CallArguments& arguments, Budget& budget) {
  List out;
  const Value* attribute = arguments.get(99, "attribute");
  const Value* fallback = arguments.get(99, "default");
  const Value* filter = arguments.get(0, "filter");
  if (attribute == nullptr && (filter == nullptr || filter->text() == nullptr)) {
    budget.fail("map takes a filter name or attribute=");
    return {};
  }
  for (const Value& item : items_of(self, budget)) {
    budget.step();
    if (budget.failed()) return {};
    Value mapped = attribute != nullptr ? attribute_of(item, *attribute, budget)
                                        : apply_filter(filter->text()->bytes, item, tail_of(arguments, 1), budget);
    if (mapped.is_undefined() && fallback != nullptr) mapped = *fallback;
    out.push_back(std::move(mapped));
  }
  return Value::list(std::move(out));
}

// select, reject, selectattr, rejectattr.
Value pick_items(std::string_view name, const Value& self, const CallArguments& arguments, Budget& budget) {
  const bool keep = name.starts_with("select");
  const bool by_attribute = name.ends_with("attr");
  const Value* attribute = by_attribute ? arguments.get(0, "") : nullptr;
  const std::size_t test_at = by_attribute ? 1 : 0;
  const Value* test = arguments.get(test_at, "");
  if ((by_attribute && attribute == nullptr) || (test != nullptr && test->text() == nullptr)) {
    budget.fail(std::string(name) + " takes " + (by_attribute ? "an attribute and " : "") + "a test name");
    return {};
  }
  List out;
  for (const Value& item : items_of(self, budget)) {
    budget.step();
    if (budget.failed()) return {};
    const Value subject = by_attribute ? attribute_of(item, *attribute, budget) : item;
    const bool holds = test == nullptr
                           ? subject.truthy()
                           : apply_test(test->text()->bytes, subject, tail_of(arguments, test_at + 1), budget);
    if (holds == keep) out.push_back(item);
  }
  return Value::list(std::move(out));
}

Value join(const Value& self, const CallArguments& arguments, Budget& budget) {
  const Value* separator = arguments.get(0, "d");
  const Value* attribute = arguments.get(1, "attribute");
  const Text between = separator == nullptr ? Text{} : to_text(*separator, budget);
  Text out;
  bool first = true;
  for (const Value& item : items_of(self, budget)) {
    const Text part = to_text(attribute == nullptr ? item : attribute_of(item, *attribute, budget), budget);
    if (budget.failed() || !budget.charge(between.size() + part.size())) return {};
    if (!first) out.append(between);
    out.append(part);
    first = false;
  }
  return Value::text(std::move(out));
}

// As the language's default: letter case does not count.
std::string folded(const std::string& text) {
  std::string out = text;
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return out;
}

struct SortKey {
  std::string text;
  double number = 0;
  std::size_t index = 0;
};

Value sorted(const Value& self, const CallArguments& arguments, Budget& budget) {
  const Value* reverse = arguments.get(0, "reverse");
  const Value* attribute = arguments.get(2, "attribute");
  const List items = items_of(self, budget);
  const bool descending = reverse != nullptr && reverse->truthy();
  std::vector<SortKey> keys;
  bool texts = false;
  for (std::size_t i = 0; i < items.size(); ++i) {
    budget.step();
    const Value key = attribute == nullptr ? items[i] : attribute_of(items[i], *attribute, budget);
    const Text* text = key.text();
    if (i == 0) texts = text != nullptr;
    if (texts ? text == nullptr : !key.is_number() || std::isnan(key.as_real())) {
      budget.fail("sort takes all strings or all numbers");
      return {};
    }
    // A comparison looks at both keys; twenty of them is what a million items take.
    if (!budget.charge(sizeof(SortKey) + (texts ? 20 * text->size() : 0))) return {};
    keys.push_back(texts ? SortKey{folded(text->bytes), 0, i} : SortKey{{}, key.as_real(), i});
  }
  std::sort(keys.begin(), keys.end(), [&](const SortKey& a, const SortKey& b) {
    const int order = texts ? a.text.compare(b.text) : (a.number > b.number ? 1 : 0) - (a.number < b.number ? 1 : 0);
    if (order != 0) return descending ? order > 0 : order < 0;
    return a.index < b.index;
  });
  List out;
  for (const SortKey& key : keys) out.push_back(items[key.index]);
  return Value::list(std::move(out));
}

Value unique(const Value& self, Budget& budget) {
  List out;
  for (const Value& item : items_of(self, budget)) {
    if (budget.failed()) return {};
    if (std::none_of(out.begin(), out.end(), [&](const Value& seen) { return same(seen, item, budget); }))
      out.push_back(item);
  }
  return Value::list(std::move(out));
}

Value pairs_of(const Value& self, bool sorted_by_key, Budget& budget) {
  const Map* map = self.map();
  if (map == nullptr) {
    if (!self.is_undefined()) budget.fail("items takes a dict, not " + std::string(self.type_name()));
    return Value::list({});
  }
  auto entries = map->entries;
  if (sorted_by_key)
    std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  List out;
  for (const auto& [key, value] : entries) out.push_back(Value::list({Value::trusted(key), value}));
  return Value::list(std::move(out));
}

Value to_integer(const Value& self, const CallArguments& arguments) {
  const Value* fallback = arguments.get(0, "default");
  if (self.is_number()) {
    const double real = self.as_real();
    if (!self.get<double>()) return Value::integer(self.as_integer());
    if (std::fabs(real) < 9e18) return Value::integer(static_cast<std::int64_t>(real));
  }
  if (const Text* text = self.text()) {
    const Text bare = strip(*text, {}, true, true);
    std::int64_t number = 0;
    const char* end = bare.bytes.data() + bare.size();
    if (const auto read = std::from_chars(bare.bytes.data(), end, number); read.ec == std::errc{} && read.ptr == end) {
      return Value::integer(number);
    }
  }
  return fallback == nullptr ? Value::integer(0) : *fallback;
}

Value to_real(const Value& self) {
  if (self.is_number()) return Value::real(self.as_real());
  double number = 0;
  if (const Text* text = self.text()) {
    const Text bare = strip(*text, {}, true, true);
    const char* end = bare.bytes.data() + bare.size();
    if (std::from_chars(bare.bytes.data(), end, number).ptr != end) number = 0;
  }
  return Value::real(number);
}

Value indent(const Text& self, const CallArguments& arguments, Budget& budget) {
  const Value* width = arguments.get(0, "width");
  const Value* first = arguments.get(1, "first");
  const Value* blank = arguments.get(2, "blank");
  const std::int64_t count =
      width != nullptr && width->is_number() ? std::clamp<std::int64_t>(width->as_integer(), 0, 256) : 4;
  const Text space = Text::trusted(std::string(static_cast<std::size_t>(count), ' '));
  Text out;
  bool head = true;
  for (std::size_t from = 0; from < self.size();) {
    const std::size_t end = std::min(self.bytes.find('\n', from), self.size());
    const bool filled = end > from || (blank != nullptr && blank->truthy());
    if (head ? (first != nullptr && first->truthy()) : filled) {
      if (!budget.charge(space.size())) return {};
      out.append(space);
    }
    if (!budget.charge(end - from + 1)) return {};
    out.append(self.slice(from, end - from + 1));
    from = end + 1;
    head = false;
  }
  return Value::text(std::move(out));
}

Value json(const Value& self, const CallArguments& arguments, Budget& budget) {
  const Value* width = arguments.get(0, "indent");
  Text out;
  print_json(self,
             width != nullptr && width->is_number()
                 ? static_cast<int>(std::clamp<std::int64_t>(width->as_integer(), 0, 16))
                 : -1,
             out);
  if (!budget.charge(out.size())) return {};
  return Value::text(std::move(out));
}

Value extreme(std::string_view name, const Value& self, Budget& budget) {
  Value best;
  for (const Value& item : items_of(self, budget)) {
    if (best.is_undefined() || apply_binary(name == "max" ? ">" : "<", item, best, budget).truthy()) best = item;
    if (budget.failed()) return {};
  }
  return best;
}

Value sum(const Value& self, const CallArguments& arguments, Budget& budget) {
  const Value* attribute = arguments.get(0, "attribute");
  Value out = Value::integer(0);
  for (const Value& item : items_of(self, budget)) {
    out = apply_binary("+", out, attribute == nullptr ? item : attribute_of(item, *attribute, budget), budget);
  }
  return out;
}

Value edge(std::string_view name, const Value& self, Budget& budget) {
  const List items = items_of(self, budget);
  if (items.empty()) return Value(Undefined{std::string(name)});
  return name == "first" ? items.front() : items.back();
}

Value reversed(const Value& self, Budget& budget) {
  List items = items_of(self, budget);
  std::reverse(items.begin(), items.end());
  if (!self.text()) return Value::list(std::move(items));
  Text out;
  for (const Value& item : items) out.append(*item.text());
  return Value::text(std::move(out));
}

Value rounded(const Value& self, const CallArguments& arguments) {
  const Value* digits = arguments.get(0, "precision");
  const double scale = std::pow(10.0, digits != nullptr && digits->is_number() ? digits->as_real() : 0.0);
  return Value::real(std::nearbyint(self.as_real() * scale) / scale);
}

}  // namespace

const Value* CallArguments::get(std::size_t index, std::string_view name) const {
  if (index < positional.size()) return &positional[index];
  for (const auto& [key, value] : named) {
    if (key == name) return &value;
  }
  return nullptr;
}

Value apply_filter(std::string_view name, const Value& self, const CallArguments& arguments, Budget& budget) {
  if (name == "trim" || name == "upper" || name == "lower" || name == "title" || name == "capitalize" ||
      name == "replace") {
    return call_text_method(to_text(self, budget), name == "trim" ? "strip" : name, arguments, budget);
  }
  if (name == "length" || name == "count") return Value::integer(static_cast<std::int64_t>(length_of(self, budget)));
  if (name == "tojson") return json(self, arguments, budget);
  if (name == "default" || name == "d") {
    const Value* fallback = arguments.get(0, "default_value");
    const Value* falsy_too = arguments.get(1, "boolean");
    const bool replaced = self.is_undefined() || (falsy_too != nullptr && falsy_too->truthy() && !self.truthy());
    if (!replaced) return self;
    return fallback == nullptr ? Value::trusted("") : *fallback;
  }
  if (name == "join") return join(self, arguments, budget);
  if (name == "first" || name == "last") return edge(name, self, budget);
  if (name == "map") return map_items(self, arguments, budget);
  if (name == "select" || name == "reject" || name == "selectattr" || name == "rejectattr") {
    return pick_items(name, self, arguments, budget);
  }
  if (name == "list") return Value::list(items_of(self, budget));
  if (name == "items") return pairs_of(self, false, budget);
  if (name == "dictsort") return pairs_of(self, true, budget);
  if (name == "string" || name == "safe") return Value::text(to_text(self, budget));
  if (name == "int") return to_integer(self, arguments);
  if (name == "float") return to_real(self);
  if (name == "sort") return sorted(self, arguments, budget);
  if (name == "unique") return unique(self, budget);
  if (name == "reverse") return reversed(self, budget);
  if (name == "indent") return indent(to_text(self, budget), arguments, budget);
  if (name == "min" || name == "max") return extreme(name, self, budget);
  if (name == "sum") return sum(self, arguments, budget);
  if (name == "abs")
    return self.as_real() < 0   ? apply_binary("-", Value::integer(0), self, budget)
           : self.get<double>() ? self
                                : Value::integer(self.as_integer());
  if (name == "round") return rounded(self, arguments);
  budget.fail("filter \"" + std::string(name) + "\" is not supported");
  return {};
}

bool apply_test(std::string_view name, const Value& self, const CallArguments& arguments, Budget& budget) {
  const Value* other = arguments.get(0, "");
  if (name == "defined") return !self.is_undefined();
  if (name == "undefined") return self.is_undefined();
  if (name == "none") return self.is_none();
  if (name == "string") return self.text() != nullptr;
  if (name == "number") return self.is_number();
  if (name == "integer") return self.get<std::int64_t>() != nullptr;
  if (name == "float") return self.get<double>() != nullptr;
  if (name == "boolean") return self.get<bool>() != nullptr;
  if (name == "true") return self.get<bool>() != nullptr && self.truthy();
  if (name == "false") return self.get<bool>() != nullptr && !self.truthy();
  if (name == "mapping") return self.map() != nullptr;
  if (name == "iterable" || name == "sequence") return self.list() || self.map() || self.text();
  if (name == "callable") return self.get<const Macro*>() || self.get<Builtin>();
  if (name == "odd" || name == "even") return self.is_number() && (self.as_integer() % 2 == 0) == (name == "even");
  if (other != nullptr) {
    if (name == "equalto" || name == "eq" || name == "==" || name == "sameas") return same(self, *other, budget);
    if (name == "ne" || name == "!=") return !same(self, *other, budget);
    if (name == "in") return contains(*other, self, budget);
    if (name == "divisibleby") {
      const std::int64_t divisor = other->as_integer();
      return divisor == -1 || (divisor != 0 && self.as_integer() % divisor == 0);
    }
    if (name == "lt" || name == "<") return apply_binary("<", self, *other, budget).truthy();
    if (name == "le" || name == "<=") return apply_binary("<=", self, *other, budget).truthy();
    if (name == "gt" || name == ">") return apply_binary(">", self, *other, budget).truthy();
    if (name == "ge" || name == ">=") return apply_binary(">=", self, *other, budget).truthy();
  }
  budget.fail("test \"" + std::string(name) + "\" is not supported");
  return false;
}

}  // namespace orch::worker::jinja
