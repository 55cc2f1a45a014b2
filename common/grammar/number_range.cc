#include "common/grammar/number_range.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "common/grammar/limits.h"

namespace orch::grammar {

namespace {

constexpr std::uint32_t kUnset = 0xFFFF'FFFF;

int compare_magnitudes(const Decimal& a, const Decimal& b) {
  if (a.whole.size() != b.whole.size()) return a.whole.size() < b.whole.size() ? -1 : 1;
  if (const int order = a.whole.compare(b.whole); order != 0) return order < 0 ? -1 : 1;
  const int order = a.fraction.compare(b.fraction);  // no zeros at the end, so a prefix is the smaller one
  return order < 0 ? -1 : order > 0 ? 1 : 0;
}

// Magnitudes from `low` to `high`, either absent, of exactly `length` digits before the point and at most `decimals`
// behind it. A state is (digits written, still equal to low so far, still equal to high so far).
class MagnitudeWriter {
 public:
  MagnitudeWriter(Network& network, const std::optional<NumberBound>& low, const std::optional<NumberBound>& high,
                  std::size_t length, std::size_t decimals)
      : network_(network), length_(length), places_(length + decimals) {
    if (low && low->value.whole.size() == length) low_ = digits_of(low->value), low_inclusive_ = low->inclusive;
    if (high && high->value.whole.size() == length) high_ = digits_of(high->value), high_inclusive_ = high->inclusive;
    states_.assign(2 * (places_ + 1) * 4, kUnset);
  }

  void add(StateId from, StateId to) {
    to_ = to;
    states_[index(0, !low_.empty(), !high_.empty(), false)] = from;
    write(0, !low_.empty(), !high_.empty(), false);
  }

 private:
  std::string digits_of(const Decimal& value) const {
    std::string out = value.whole + value.fraction;
    out.resize(std::max(out.size(), places_), '0');
    return out;
  }

  std::size_t index(std::size_t at, bool on_low, bool on_high, bool behind_point) const {
    return ((at * 2 + (on_low ? 1 : 0)) * 2 + (on_high ? 1 : 0)) * 2 + (behind_point ? 1 : 0);
  }

  // The state for it, made and continued when it is new.
  StateId state(std::size_t at, bool on_low, bool on_high, bool behind_point) {
    const std::size_t slot = index(at, on_low, on_high, behind_point);
    if (states_[slot] == kUnset) {
      states_[slot] = network_.add_state();
      write(at, on_low, on_high, behind_point);
    }
    return states_[slot];
  }

  static bool zeros_from(const std::string& digits, std::size_t at) {
    return digits.find_first_not_of('0', at) == std::string::npos;
  }

  // The number may end here: what is not written are zeros.
  bool may_end(std::size_t at, bool on_low, bool on_high) const {
    if (on_low && !(zeros_from(low_, at) && low_inclusive_)) return false;
    return !on_high || high_inclusive_ || !zeros_from(high_, at);
  }

  void write(std::size_t at, bool on_low, bool on_high, bool behind_point) {
    if (network_.over_limit()) return;
    const StateId from = states_[index(at, on_low, on_high, behind_point)];
    if (at >= length_ && may_end(at, on_low, on_high) && (at == length_) == !behind_point)
      network_.add_empty(from, to_);
    if (at == places_) return;
    if (at == length_ && !behind_point) {
      return network_.add_bytes(from, '.', '.', state(at, on_low, on_high, true));
    }
    char first = at == 0 && length_ > 1 ? '1' : '0';
    const char low = on_low ? low_[at] : '0';
    const char high = on_high ? high_[at] : '9';
    first = std::max(first, low);
    // Digits of the same kind share an edge: the bound's own digits, and those between.
    for (char digit = first; digit <= high;) {
      const bool is_low = on_low && digit == low;
      const bool is_high = on_high && digit == high;
      char last = digit;
      while (!is_low && !is_high && last < high && !(on_high && last + 1 == high)) ++last;
      network_.add_bytes(from, static_cast<std::uint8_t>(digit), static_cast<std::uint8_t>(last),
                         state(at + 1, is_low, is_high, behind_point));
      digit = static_cast<char>(last + 1);
    }
  }

  Network& network_;
  std::size_t length_;
  std::size_t places_;
  std::string low_;  // empty: no bound among numbers of this length
  std::string high_;
  bool low_inclusive_ = true;
  bool high_inclusive_ = true;
  StateId to_ = 0;
  std::vector<StateId> states_;
};

// `low` and `high` without sign; low <= high.
void add_magnitudes(Network& network, StateId from, const std::optional<NumberBound>& low,
                    const std::optional<NumberBound>& high, bool integer, StateId to) {
  const std::size_t longest = static_cast<std::size_t>(integer ? kIntegerDigitsMax : kSignificantDigitsMax);
  const std::size_t shortest = low ? low->value.whole.size() : 1;
  for (std::size_t length = shortest; length <= longest && !network.over_limit(); ++length) {
    if (high && length > high->value.whole.size()) break;
    MagnitudeWriter(network, low, high, length, integer ? 0 : longest - length).add(from, to);
  }
}

}  // namespace

std::optional<Decimal> parse_decimal(std::string_view number) {
  Decimal out;
  if (number.starts_with('-')) {
    out.negative = true;
    number.remove_prefix(1);
  }
  int exponent = 0;
  if (const auto at = number.find_first_of("eE"); at != std::string_view::npos) {
    std::string_view digits = number.substr(at + 1);
    const bool negative = digits.starts_with('-');
    if (negative || digits.starts_with('+')) digits.remove_prefix(1);
    if (digits.size() > 3) return std::nullopt;
    for (const char digit : digits) exponent = exponent * 10 + (digit - '0');
    if (negative) exponent = -exponent;
    number = number.substr(0, at);
  }
  const std::size_t point = std::min(number.find('.'), number.size());
  std::string digits(number.substr(0, point));
  if (point < number.size()) digits += number.substr(point + 1);
  if (digits.size() > 400) return std::nullopt;
  // Where the point stands after shifting it by the exponent.
  std::ptrdiff_t at = static_cast<std::ptrdiff_t>(point) + exponent;
  if (at < 0) {
    digits.insert(0, static_cast<std::size_t>(-at), '0');
    at = 0;
  }
  digits.resize(std::max(digits.size(), static_cast<std::size_t>(at)), '0');
  out.whole = digits.substr(0, static_cast<std::size_t>(at));
  out.fraction = digits.substr(static_cast<std::size_t>(at));
  out.whole.erase(0, std::min(out.whole.find_first_not_of('0'), out.whole.size()));
  if (out.whole.empty()) out.whole = "0";
  out.fraction.resize(out.fraction.find_last_not_of('0') + 1);  // npos + 1 is 0
  if (out.is_zero()) out.negative = false;
  return out;
}

int compare(const Decimal& a, const Decimal& b) {
  if (a.negative != b.negative) return a.negative ? -1 : 1;
  return a.negative ? -compare_magnitudes(a, b) : compare_magnitudes(a, b);
}

NumberBound rounded_inside(const NumberBound& bound, bool is_low) {
  NumberBound out = bound;
  out.value.fraction.clear();
  out.inclusive = bound.inclusive || !bound.value.fraction.empty();
  // Cutting the fraction moves towards zero: outside for a low bound above it and a high bound below it.
  if (bound.value.fraction.empty() || bound.value.negative == is_low) {
    if (out.value.is_zero()) out.value.negative = false;
    return out;
  }
  std::size_t at = out.value.whole.size();
  while (at > 0 && out.value.whole[at - 1] == '9') out.value.whole[--at] = '0';
  if (at == 0) {
    out.value.whole.insert(0, 1, '1');
  } else {
    ++out.value.whole[at - 1];
  }
  return out;
}

void add_number_range(Network& network, StateId from, const NumberRange& range, StateId to) {
  std::optional<NumberBound> low = range.low;
  std::optional<NumberBound> high = range.high;
  if (range.integer && low) low = rounded_inside(*low, true);
  if (range.integer && high) high = rounded_inside(*high, false);
  if (low && high && compare(low->value, high->value) > 0) return;
  const NumberBound zero{};
  // Zero and above.
  if (!high || !high->value.negative) {
    const bool from_zero = !low || low->value.negative;
    add_magnitudes(network, from, from_zero ? zero : low, high, range.integer, to);
  }
  // Below zero: the magnitudes between the bounds, the other way round.
  if (!low || low->value.negative) {
    std::optional<NumberBound> nearest = NumberBound{{}, false};
    std::optional<NumberBound> farthest;
    if (high && high->value.negative) nearest = high;
    if (low) farthest = low;
    const StateId magnitude = network.add_state();
    network.add_bytes(from, '-', '-', magnitude);
    add_magnitudes(network, magnitude, nearest, farthest, range.integer, to);
  }
}

}  // namespace orch::grammar
