// Operators, subscripts and slices.
#include <algorithm>
#include <cmath>
#include <limits>

#include "worker/text/jinja/builtins.h"

namespace orch::worker::jinja {

namespace {

constexpr double kIntegerEdge = 9.0e18;

Value type_error(std::string_view op, const Value& left, const Value& right, Budget& budget) {
  budget.fail("\"" + std::string(op) + "\" does not take " + std::string(left.type_name()) + " and " +
              std::string(right.type_name()));
  return {};
}

Value arithmetic(std::string_view op, const Value& left, const Value& right, Budget& budget) {
  const bool whole = !left.get<double>() && !right.get<double>();
  if (op == "/" || op == "//" || op == "%") {
    if (right.as_real() == 0) {
      budget.fail("division by zero");
      return {};
    }
    if (op == "/") return Value::real(left.as_real() / right.as_real());
  }
  if (!whole || op == "**") {
    const double a = left.as_real();
    const double b = right.as_real();
    double out = 0;
    if (op == "+")
      out = a + b;
    else if (op == "-")
      out = a - b;
    else if (op == "*")
      out = a * b;
    else if (op == "//")
      out = std::floor(a / b);
    else if (op == "%")
      out = a - b * std::floor(a / b);
    else
      out = std::pow(a, b);
    if (!whole || b < 0 || std::fabs(out) >= kIntegerEdge) return Value::real(out);
    return Value::integer(static_cast<std::int64_t>(out));
  }
  const std::int64_t a = left.as_integer();
  const std::int64_t b = right.as_integer();
  std::int64_t out = 0;
  bool overflow = false;
  if (op == "+")
    overflow = __builtin_add_overflow(a, b, &out);
  else if (op == "-")
    overflow = __builtin_sub_overflow(a, b, &out);
  else if (op == "*")
    overflow = __builtin_mul_overflow(a, b, &out);
  else if (b == -1)
    overflow = op == "//" ? __builtin_sub_overflow(std::int64_t{0}, a, &out) : false;
  else {  // Python rounds towards minus infinity; the remainder has the sign of the divisor
    const std::int64_t remainder = a % b;
    const bool adjust = remainder != 0 && ((remainder < 0) != (b < 0));
    out = op == "//" ? a / b - (adjust ? 1 : 0) : remainder + (adjust ? b : 0);
  }
  if (overflow) {
    budget.fail("integer overflow");
    return {};
  }
  return Value::integer(out);
}

Value repeat(const Value& sequence, std::int64_t times, Budget& budget) {
  const auto count = static_cast<std::uint64_t>(std::max<std::int64_t>(times, 0));
  const Text* repeated = sequence.text();  // a text has as many bytes of marks as of its own
  const std::uint64_t size =
      repeated != nullptr ? 2 * repeated->size() + 1 : sequence.list()->size() * sizeof(Value) + 1;
  if (count > std::numeric_limits<std::uint64_t>::max() / size / 2 || !budget.charge(count * size)) {
    budget.fail("a repetition is too long");
    return {};
  }
  if (const Text* text = sequence.text()) {
    Text out;
    for (std::uint64_t i = 0; i < count; ++i) out.append(*text);
    return Value::text(std::move(out));
  }
  List out;
  for (std::uint64_t i = 0; i < count; ++i) out.insert(out.end(), sequence.list()->begin(), sequence.list()->end());
  return Value::list(std::move(out));
}

Value compare(std::string_view op, const Value& left, const Value& right, Budget& budget) {
  int order = 0;
  if (left.is_number() && right.is_number()) {
    order = left.as_real() < right.as_real() ? -1 : (left.as_real() > right.as_real() ? 1 : 0);
  } else if (left.text() && right.text()) {
    order = left.text()->bytes.compare(right.text()->bytes);
  } else {
    return type_error(op, left, right, budget);
  }
  if (op == "<") return Value::boolean(order < 0);
  if (op == "<=") return Value::boolean(order <= 0);
  if (op == ">") return Value::boolean(order > 0);
  return Value::boolean(order >= 0);
}

}  // namespace

bool charge_search(const Text& text, const Text& what, Budget& budget) {
  return budget.charge(text.size() * (1 + what.size() / 16));
}

bool same(const Value& left, const Value& right, Budget& budget) {
  const std::uint64_t before = budget.bytes_left();
  std::uint64_t left_over = before;
  const bool out = equal(left, right, left_over);
  return budget.charge(left_over == 0 ? before + 1 : before - left_over) && out;
}

bool contains(const Value& container, const Value& item, Budget& budget) {
  if (const Text* text = container.text()) {
    if (item.text() == nullptr) {
      type_error("in", item, container, budget);
      return false;
    }
    return charge_search(*text, *item.text(), budget) && text->bytes.find(item.text()->bytes) != std::string::npos;
  }
  if (const List* list = container.list()) {
    return budget.charge(list->size()) &&
           std::any_of(list->begin(), list->end(), [&](const Value& entry) { return same(entry, item, budget); });
  }
  if (const Map* map = container.map()) {
    return budget.charge(map->entries.size()) && item.text() != nullptr && map->find(item.text()->bytes) != nullptr;
  }
  if (!container.is_undefined()) type_error("in", item, container, budget);
  return false;
}

Value apply_binary(std::string_view op, const Value& left, const Value& right, Budget& budget) {
  if (op == "==") return Value::boolean(same(left, right, budget));
  if (op == "!=") return Value::boolean(!same(left, right, budget));
  if (op == "in") return Value::boolean(contains(right, left, budget));
  if (op == "not in") return Value::boolean(!contains(right, left, budget));
  if (op == "~") {
    Text out = to_text(left, budget);
    const Text tail = to_text(right, budget);
    if (budget.charge(out.size() + tail.size())) out.append(tail);
    return Value::text(std::move(out));
  }
  if (op[0] == '<' || op[0] == '>') return compare(op, left, right, budget);
  if (left.is_number() && right.is_number()) return arithmetic(op, left, right, budget);
  if (op == "+" && left.text() && right.text()) {
    if (!budget.charge(left.text()->size() + right.text()->size())) return {};
    Text out = *left.text();
    out.append(*right.text());
    return Value::text(std::move(out));
  }
  if (op == "+" && left.list() && right.list()) {
    if (!budget.charge((left.list()->size() + right.list()->size()) * sizeof(Value))) return {};
    List out = *left.list();
    out.insert(out.end(), right.list()->begin(), right.list()->end());
    return Value::list(std::move(out));
  }
  const auto repeats = [](const Value& sequence, const Value& times) {
    return (sequence.text() || sequence.list()) && times.is_number() && !times.get<double>();
  };
  if (op == "*" && repeats(left, right)) return repeat(left, right.as_integer(), budget);
  if (op == "*" && repeats(right, left)) return repeat(right, left.as_integer(), budget);
  return type_error(op, left, right, budget);
}

Value subscript(const Value& container, const Value& key, Budget& budget) {
  if (const Map* map = container.map()) {
    if (!budget.charge(map->entries.size())) return {};
    const Value* found = key.text() == nullptr ? nullptr : map->find(key.text()->bytes);
    return found != nullptr ? *found : Value(Undefined{key.text() == nullptr ? "" : key.text()->bytes});
  }
  if (container.list() || container.text()) {
    if (!key.is_number() || key.get<double>()) return Value(Undefined{"subscript"});
    std::int64_t index = key.as_integer();
    const auto length = static_cast<std::int64_t>(length_of(container, budget));
    if (index < 0) index += length;
    if (index < 0 || index >= length) return Value(Undefined{"subscript"});
    if (const List* list = container.list()) return (*list)[static_cast<std::size_t>(index)];
    if (!budget.charge(container.text()->size())) return {};
    const auto offsets = code_point_offsets(container.text()->bytes);
    const auto at = static_cast<std::size_t>(index);
    return Value::text(container.text()->slice(offsets[at], offsets[at + 1] - offsets[at]));
  }
  if (container.is_undefined()) {
    budget.fail("\"" + container.get<Undefined>()->name + "\" is undefined");
    return {};
  }
  return Value(Undefined{"subscript"});
}

Value slice(const Value& container, const Value* from, const Value* to, const Value* step, Budget& budget) {
  if (!container.list() && !container.text()) {
    budget.fail("cannot slice " + std::string(container.type_name()));
    return {};
  }
  const auto number = [](const Value* value) { return value != nullptr && value->is_number(); };
  const std::int64_t stride = number(step) ? step->as_integer() : 1;
  if (stride == 0) {
    budget.fail("a slice's step is 0");
    return {};
  }
  const auto length = static_cast<std::int64_t>(length_of(container, budget));
  const auto bound = [&](const Value* value, std::int64_t fallback) {
    if (!number(value)) return fallback;
    std::int64_t index = value->as_integer();
    if (index < 0) index = index < -length ? -1 : index + length;
    if (stride > 0) return std::clamp<std::int64_t>(index, 0, length);
    return std::clamp<std::int64_t>(index, -1, length - 1);
  };
  const std::int64_t first = bound(from, stride > 0 ? 0 : length - 1);
  const std::int64_t last = bound(to, stride > 0 ? length : -1);
  const Text* text = container.text();
  if (!budget.charge(text != nullptr ? text->size() * 2 : static_cast<std::uint64_t>(length) * sizeof(Value)))
    return {};
  const auto offsets = text != nullptr ? code_point_offsets(text->bytes) : std::vector<std::size_t>{};
  Text text_out;
  List list_out;
  for (std::int64_t i = first; stride > 0 ? i < last : i > last; i += stride) {
    const auto at = static_cast<std::size_t>(i);
    if (text != nullptr)
      text_out.append(text->slice(offsets[at], offsets[at + 1] - offsets[at]));
    else
      list_out.push_back((*container.list())[at]);
    if (stride > length || stride < -length) break;  // also keeps i from overflowing
  }
  return text != nullptr ? Value::text(std::move(text_out)) : Value::list(std::move(list_out));
}

std::size_t length_of(const Value& value, Budget& budget) {
  if (const Text* text = value.text()) {
    if (!budget.charge(text->size() / 8 + 1)) return 0;
    return static_cast<std::size_t>(
        std::count_if(text->bytes.begin(), text->bytes.end(), [](char c) { return (c & 0xC0) != 0x80; }));
  }
  if (const List* list = value.list()) return list->size();
  if (const Map* map = value.map()) return map->entries.size();
  if (!value.is_undefined()) budget.fail(std::string(value.type_name()) + " has no length");
  return 0;
}

List items_of(const Value& value, Budget& budget) {
  List out;
  if (const List* list = value.list()) {
    if (budget.charge(list->size() * sizeof(Value))) out = *list;
  } else if (const Map* map = value.map()) {
    if (!budget.charge(map->entries.size() * sizeof(Value))) return out;
    for (const auto& [key, entry] : map->entries) out.push_back(Value::trusted(key));
  } else if (const Text* text = value.text()) {
    if (!budget.charge(text->size() * kTextItemBytes)) return out;
    const auto offsets = code_point_offsets(text->bytes);
    for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
      out.push_back(Value::text(text->slice(offsets[i], offsets[i + 1] - offsets[i])));
    }
  } else if (!value.is_undefined()) {
    budget.fail("cannot loop over " + std::string(value.type_name()));
  }
  return out;
}

Text to_text(const Value& value, Budget& budget) {
  if (const Text* text = value.text()) {
    if (!budget.charge(text->size())) return {};
    return *text;
  }
  Text out;
  print(value, Print::display, out);
  if (!budget.charge(out.size())) return {};
  return out;
}

}  // namespace orch::worker::jinja
