// Values of the template language. Text carries for each byte whether it came from the user, through every operation,
// so that the rendered prompt knows which bytes may spell control tokens (ENGINE-RULES, interface 5).
//
// Containers are shared by reference, as in the language, and end one after the other however deep they are nested.
// Nothing here allocates without the evaluator's budget having been charged by the caller.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace orch::worker::jinja {

// `mask` has one byte for each byte of `bytes`: 0 trusted (template, model file), 1 from the user.
struct Text {
  std::string bytes;
  std::string mask;

  static Text trusted(std::string_view text) { return {std::string(text), std::string(text.size(), '\0')}; }
  static Text from_user(std::string_view text) { return {std::string(text), std::string(text.size(), '\1')}; }

  std::size_t size() const { return bytes.size(); }
  Text slice(std::size_t from, std::size_t count) const {
    return {bytes.substr(from, count), mask.substr(from, count)};
  }
  void append(const Text& other) {
    bytes += other.bytes;
    mask += other.mask;
  }
};

class Value;
struct Macro;  // in ast.h

using List = std::vector<Value>;

// Keys in order of insertion.
struct Map {
  std::vector<std::pair<std::string, Value>> entries;
  bool is_namespace = false;  // attributes may be assigned by {% set ns.x = ... %}

  const Value* find(std::string_view key) const;
  void set(std::string_view key, Value value);
};

struct Undefined {
  std::string name;
};
struct None {};
// A built-in function by name, or a method bound to the value it was taken from.
struct Builtin {
  std::string name;
  std::shared_ptr<const Value> bound;
};

class Value {
 public:
  using Variant = std::variant<Undefined, None, bool, std::int64_t, double, std::shared_ptr<const Text>,
                               std::shared_ptr<List>, std::shared_ptr<Map>, const Macro*, Builtin>;

  Value() = default;
  explicit Value(Variant value) : value_(std::move(value)) {}
  static Value none() { return Value(None{}); }
  static Value boolean(bool value) { return Value(Variant(std::in_place_type<bool>, value)); }
  static Value integer(std::int64_t value) { return Value(Variant(std::in_place_type<std::int64_t>, value)); }
  static Value real(double value) { return Value(Variant(std::in_place_type<double>, value)); }
  static Value text(Text value) { return Value(std::make_shared<const Text>(std::move(value))); }
  static Value trusted(std::string_view value) { return text(Text::trusted(value)); }
  static Value list(List value);
  static Value map(Map value);

  template <typename T>
  const T* get() const {
    return std::get_if<T>(&value_);
  }
  const Text* text() const { return pointee<std::shared_ptr<const Text>>(); }
  List* list() const { return pointee<std::shared_ptr<List>>(); }
  Map* map() const { return pointee<std::shared_ptr<Map>>(); }
  bool is_undefined() const { return get<Undefined>() != nullptr; }
  bool is_none() const { return get<None>() != nullptr; }
  // Can lead to itself, once something was put into it later.
  bool is_container() const { return list() != nullptr || map() != nullptr || get<Builtin>() != nullptr; }
  bool is_number() const { return get<bool>() || get<std::int64_t>() || get<double>(); }
  // True and False count as 1 and 0.
  double as_real() const;
  std::int64_t as_integer() const;  // only for bool and integer

  bool truthy() const;
  // "string", "int", ...: for messages and tests.
  std::string_view type_name() const;

 private:
  template <typename P>
  auto pointee() const -> decltype(std::declval<const P&>().get()) {
    const P* pointer = get<P>();
    return pointer == nullptr ? nullptr : pointer->get();
  }
  Variant value_;
};

// Takes what it looked at off `allowance`, in about bytes; one that is used up ends the comparison with false.
bool equal(const Value& a, const Value& b, std::uint64_t& allowance);

inline constexpr int kValueDepthMax = 32;  // of printing, comparing and tojson

// What {{ value }} prints. `repr`: strings quoted, as inside a printed list.
enum class Print : std::uint8_t { display, repr };
void print(const Value& value, Print form, Text& out, int depth = 0);

// JSON as Python's json.dumps(ensure_ascii=False) writes it; indent < 0: one line.
void print_json(const Value& value, int indent, Text& out, int depth = 0);

std::string real_to_string(double value);

}  // namespace orch::worker::jinja
