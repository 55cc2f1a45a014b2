// Numbers between two decimal bounds, written without an exponent: "-12", "0.75".
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/grammar/network.h"

namespace orch::grammar {

// A decimal number as its digits: 0.05 is {"0", "05"}. No leading zeros before the point, none at the end behind it.
struct Decimal {
  bool negative = false;
  std::string whole = "0";
  std::string fraction;

  bool is_zero() const { return whole == "0" && fraction.empty(); }
};

// Of a JSON number; nullopt: it has more digits than any bound may have.
std::optional<Decimal> parse_decimal(std::string_view number);
int compare(const Decimal& a, const Decimal& b);

struct NumberBound {
  Decimal value;
  bool inclusive = true;
};

struct NumberRange {
  std::optional<NumberBound> low;
  std::optional<NumberBound> high;
  bool integer = false;
};

// A bound as the next integer inside it, for ranges of integers.
NumberBound rounded_inside(const NumberBound& bound, bool is_low);

// Adds every number of the range that has at most kIntegerDigitsMax digits (integers) or kSignificantDigitsMax digits.
// A range with none adds nothing. "-0" is never written.
void add_number_range(Network& network, StateId from, const NumberRange& range, StateId to);

}  // namespace orch::grammar
