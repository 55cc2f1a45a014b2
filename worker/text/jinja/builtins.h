// Filters, tests, methods, functions and operators: what a template can call. Each returns Undefined after
// budget.fail().
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "worker/text/jinja/budget.h"
#include "worker/text/jinja/value.h"

namespace orch::worker::jinja {

struct CallArguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  // Positional `index`, else by name; null when absent.
  const Value* get(std::size_t index, std::string_view name) const;
};

Value apply_filter(std::string_view name, const Value& self, const CallArguments& arguments, Budget& budget);
bool apply_test(std::string_view name, const Value& self, const CallArguments& arguments, Budget& budget);
// Undefined when the type has no such method; then the name is looked up as a key.
bool has_method(const Value& self, std::string_view name);
Value call_builtin(const Builtin& builtin, const CallArguments& arguments, Budget& budget);
bool is_function(std::string_view name);

Value apply_binary(std::string_view op, const Value& left, const Value& right, Budget& budget);
bool same(const Value& left, const Value& right, Budget& budget);
bool contains(const Value& container, const Value& item, Budget& budget);
Value subscript(const Value& container, const Value& key, Budget& budget);
// Null bounds are absent.
Value slice(const Value& container, const Value* from, const Value* to, const Value* step, Budget& budget);

// About what a text costs that is an item of its own, beside its bytes.
inline constexpr std::uint64_t kTextItemBytes = sizeof(Value) + sizeof(Text) + 16;
// Before `what` is looked for in `text`: the library's search compares at every place.
bool charge_search(const Text& text, const Text& what, Budget& budget);

// The items a loop runs over; a dict gives its keys, a string its code points.
List items_of(const Value& value, Budget& budget);
std::size_t length_of(const Value& value, Budget& budget);
Text to_text(const Value& value, Budget& budget);

// The methods of strings (also behind filters of the same meaning).
Value call_text_method(const Text& self, std::string_view name, const CallArguments& arguments, Budget& budget);
bool is_text_method(std::string_view name);
Text strip(const Text& text, std::string_view characters, bool left, bool right);
std::vector<std::size_t> code_point_offsets(const std::string& bytes);  // plus the end

}  // namespace orch::worker::jinja
