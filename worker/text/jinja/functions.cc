// Functions of the language and the methods of lists and dicts.
#include <algorithm>

#include "worker/text/jinja/builtins.h"

namespace orch::worker::jinja {

namespace {

constexpr std::int64_t kRangeMax = 100'000;

Value range(const CallArguments& arguments, Budget& budget) {
  std::int64_t first = 0;
  std::int64_t last = 0;
  std::int64_t step = 1;
  const auto& given = arguments.positional;
  if (given.empty() || given.size() > 3 || !std::all_of(given.begin(), given.end(), [](const Value& value) {
        return value.is_number() && !value.get<double>();
      })) {
    budget.fail("range takes one to three integers");
    return {};
  }
  if (given.size() == 1) last = given[0].as_integer();
  if (given.size() >= 2) {
    first = given[0].as_integer();
    last = given[1].as_integer();
  }
  if (given.size() == 3) step = given[2].as_integer();
  const __int128 span = static_cast<__int128>(last) - first;
  const __int128 count = step == 0 ? 0 : (span + (step > 0 ? step - 1 : step + 1)) / step;
  if (step == 0 || count > kRangeMax) {
    budget.fail(step == 0 ? "range: step is 0" : "range has more than " + std::to_string(kRangeMax) + " items");
    return {};
  }
  List out;
  if (count > 0 && !budget.charge(static_cast<std::uint64_t>(count) * sizeof(Value))) return {};
  for (__int128 i = 0; i < count; ++i) out.push_back(Value::integer(static_cast<std::int64_t>(first + i * step)));
  return Value::list(std::move(out));
}

// Finding the place looks at every key.
void put_into(const Value& map, const std::string& key, const Value& value, Budget& budget) {
  if (!budget.charge(map.map()->entries.size() + sizeof(Value))) return;
  map.map()->set(key, value);
  budget.note_change(map, value);
}

Value call_map_method(const Value& self, std::string_view name, const CallArguments& arguments, Budget& budget) {
  Map& map = *self.map();
  if (!budget.charge(map.entries.size() * sizeof(Value))) return {};
  if (name == "get") {
    const Value* key = arguments.get(0, "key");
    const Value* fallback = arguments.get(1, "default");
    const Value* found = key == nullptr || key->text() == nullptr ? nullptr : map.find(key->text()->bytes);
    if (found != nullptr) return *found;
    return fallback == nullptr ? Value::none() : *fallback;
  }
  if (name == "update") {
    const Value* other = arguments.get(0, "");
    if (other != nullptr && other->map() != nullptr) {
      const Map source = *other->map();
      for (const auto& [key, value] : source.entries) put_into(self, key, value, budget);
    }
    for (const auto& [key, value] : arguments.named) put_into(self, key, value, budget);
    return Value::none();
  }
  List out;
  for (const auto& [key, value] : map.entries) {
    if (name == "keys")
      out.push_back(Value::trusted(key));
    else if (name == "values")
      out.push_back(value);
    else
      out.push_back(Value::list({Value::trusted(key), value}));
  }
  return Value::list(std::move(out));
}

Value call_list_method(const Value& self, std::string_view name, const CallArguments& arguments, Budget& budget) {
  List& list = *self.list();
  const Value* item = arguments.get(0, "");
  if (name == "append" && item != nullptr) {
    if (budget.charge(sizeof(Value))) list.push_back(*item);
    budget.note_change(self, *item);
    return Value::none();
  }
  if (name == "pop") {
    if (list.empty()) {
      budget.fail("pop of an empty list");
      return {};
    }
    Value out = list.back();
    list.pop_back();
    return out;
  }
  if (name == "count" && item != nullptr) {
    return Value::integer(
        std::count_if(list.begin(), list.end(), [&](const Value& entry) { return same(entry, *item, budget); }));
  }
  budget.fail("list." + std::string(name) + " takes one argument");
  return {};
}

}  // namespace

bool is_function(std::string_view name) {
  return name == "range" || name == "namespace" || name == "dict" || name == "raise_exception";
}

bool has_method(const Value& self, std::string_view name) {
  if (self.text()) return is_text_method(name);
  if (self.list()) return name == "append" || name == "pop" || name == "count";
  if (self.map() && !self.map()->is_namespace) {
    return name == "get" || name == "items" || name == "keys" || name == "values" || name == "update";
  }
  return false;
}

Value call_builtin(const Builtin& builtin, const CallArguments& arguments, Budget& budget) {
  if (builtin.bound) {
    const Value& self = *builtin.bound;
    if (self.text()) return call_text_method(*self.text(), builtin.name, arguments, budget);
    if (self.list()) return call_list_method(self, builtin.name, arguments, budget);
    return call_map_method(self, builtin.name, arguments, budget);
  }
  if (builtin.name == "range") return range(arguments, budget);
  if (builtin.name == "raise_exception") {
    const Value* message = arguments.get(0, "message");
    // The template's own words; user text inside it is bounded.
    budget.fail("the template refuses: " +
                (message == nullptr ? std::string() : to_text(*message, budget).bytes.substr(0, 512)));
    return {};
  }
  Map out;
  out.is_namespace = builtin.name == "namespace";
  if (const Value* base = arguments.get(0, ""); base != nullptr && base->map() != nullptr)
    out.entries = base->map()->entries;
  for (const auto& [key, value] : arguments.named) out.set(key, value);
  return Value::map(std::move(out));
}

}  // namespace orch::worker::jinja
