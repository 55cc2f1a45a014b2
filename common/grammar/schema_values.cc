// Strings, numbers and what values have in common.
#include <algorithm>
#include <array>
#include <utility>

#include "common/grammar/limits.h"
#include "common/grammar/regex.h"
#include "common/grammar/schema_writer.h"

namespace orch::grammar {

namespace {

struct Format {
  std::string_view name;
  std::string_view regex;
};

// RFC 3339 and the usual spellings. Days exist in every year: 29 February is left out, as are leap seconds.
#define ORCH_DATE                                                                                                      \
  "([1-9][0-9]{3})-(((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01]))|((0[469]|11)-(0[1-9]|[12][0-9]|30))|02-(0[1-9]|1[0-9]" \
  "|2[0-"                                                                                                              \
  "8]))"
#define ORCH_TIME "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
constexpr std::array<Format, 5> kFormats{
    {{"date", ORCH_DATE},
     {"time", ORCH_TIME},
     {"date-time", ORCH_DATE "T" ORCH_TIME},
     {"uuid", "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"},
     {"ipv4", "((25[0-5]|(2[0-4]|1[0-9]|[1-9]|)[0-9])\\.){3}(25[0-5]|(2[0-4]|1[0-9]|[1-9]|)[0-9])"}}};
#undef ORCH_DATE
#undef ORCH_TIME

}  // namespace

void SchemaWriter::add_string(const JsonTree& schema, const Place& place) {
  const JsonTree* pattern = schema.member("pattern");
  const JsonTree* format = schema.member("format");
  const auto min = count(schema, "minLength", place);
  const auto max = count(schema, "maxLength", place);
  if (error_) return;
  const int together = (pattern != nullptr ? 1 : 0) + (format != nullptr ? 1 : 0) + (min || max ? 1 : 0);
  if (together > 1) {
    return fail(place.at(pattern != nullptr ? "pattern" : "format").path,
                "pattern, format and lengths are supported one at a time");
  }
  if (pattern != nullptr) return add_pattern(*pattern, place.at("pattern"));
  if (format != nullptr) {
    const auto known = std::find_if(kFormats.begin(), kFormats.end(), [&](const Format& each) {
      return format->is(JsonKind::string) && each.name == format->text;
    });
    if (known == kFormats.end()) {
      return fail(place.at("format").path, "supported formats: date, time, date-time, uuid, ipv4");
    }
    auto parsed = parse_regex(known->regex);
    ORCH_CHECK(parsed.ok());
    return add_quoted(whole_match(std::move(parsed).value()), place);
  }
  if (min.value_or(0) > max.value_or(kUnbounded)) {
    return fail(place.at("maxLength").path, "maxLength is below minLength");
  }
  const StateId open = network_.add_state();
  const StateId close = network_.add_state();
  network_.add_text(place.from, "\"", open);
  writer_.add_repeated(open, character(), min.value_or(0), max.value_or(kUnbounded), close);
  network_.add_text(close, "\"", place.to);
}

void SchemaWriter::add_pattern(const JsonTree& pattern, const Place& place) {
  if (!pattern.is(JsonKind::string)) return fail(place.path, "a regular expression belongs here");
  auto parsed = parse_regex(pattern.text);
  if (!parsed.ok()) return fail(place.path, parsed.error().where + ": " + parsed.error().message);
  add_quoted(match_within(std::move(parsed).value()), place);
}

void SchemaWriter::add_quoted(const Expression& body, const Place& place) {
  const StateId open = network_.add_state();
  const StateId close = network_.add_state();
  network_.add_text(place.from, "\"", open);
  writer_.add(open, body, Spelling::json_string, close);
  network_.add_text(close, "\"", place.to);
}

// The tighter of the inclusive and the exclusive bound.
std::optional<NumberBound> SchemaWriter::bound(const JsonTree& schema, bool is_low, bool integer, const Place& place) {
  const std::array<std::string_view, 2> keywords = is_low
                                                       ? std::array<std::string_view, 2>{"minimum", "exclusiveMinimum"}
                                                       : std::array<std::string_view, 2>{"maximum", "exclusiveMaximum"};
  std::optional<NumberBound> out;
  for (std::size_t i = 0; i < keywords.size() && !error_; ++i) {
    const JsonTree* value = schema.member(keywords[i]);
    if (value == nullptr) continue;
    const auto number = value->is(JsonKind::number) ? parse_decimal(value->text) : std::nullopt;
    if (!number) {
      fail(place.at(keywords[i]).path, "a number belongs here");
    } else if (!integer && number->whole.size() + number->fraction.size() > kSignificantDigitsMax) {
      fail(place.at(keywords[i]).path,
           "a bound has at most " + std::to_string(kSignificantDigitsMax) + " digits, zeros of an exponent included");
    } else {
      NumberBound next{*number, i == 0};
      const int order = out ? compare(next.value, out->value) : 0;
      if (!out || order == 0 || (order > 0) == is_low) out = next;
    }
  }
  return out;
}

void SchemaWriter::add_number(const JsonTree& schema, bool integer, const Place& place) {
  const NumberRange range{bound(schema, true, integer, place), bound(schema, false, integer, place), integer};
  if (error_) return;
  if (!range.low && !range.high) return add_plain_number(integer, place.from, place.to);
  const int order = range.low && range.high ? compare(range.low->value, range.high->value) : -1;
  if (order > 0 || (order == 0 && !(range.low->inclusive && range.high->inclusive))) {
    return fail(place.path, "no number lies between the bounds");
  }
  add_number_range(network_, place.from, range, place.to);
}

RuleId SchemaWriter::digits(int max) {
  if (const auto found = digits_.find(max); found != digits_.end()) return found->second;
  const RuleId rule = network_.add_rule();
  digits_.emplace(max, rule);
  StateId at = network_.rule(rule).entry;
  for (int i = 0; i < max; ++i) {
    const StateId next = network_.add_state();
    network_.add_bytes(at, '0', '9', next);
    network_.add_empty(next, network_.rule(rule).exit);
    at = next;
  }
  return rule;
}

void SchemaWriter::add_plain_number(bool integer, StateId from, StateId to) {
  const StateId sign = network_.add_state();
  const StateId whole = network_.add_state();
  const StateId more = network_.add_state();
  network_.add_text(from, "-", sign);
  // An integer is not written "-0", which some readers take for a fraction.
  if (integer) network_.add_text(from, "0", whole);
  for (const StateId begin : {from, sign}) {
    if (!integer) network_.add_text(begin, "0", whole);
    network_.add_bytes(begin, '1', '9', more);
  }
  network_.add_empty(more, whole);
  network_.add_call(more, digits(kIntegerDigitsMax - 1), whole);
  network_.add_empty(whole, to);
  if (integer) return;
  const StateId point = network_.add_state();
  const StateId fraction = network_.add_state();
  const StateId exponent = network_.add_state();
  const StateId exponent_digits = network_.add_state();
  network_.add_text(whole, ".", point);
  network_.add_call(point, digits(kFractionDigitsMax), fraction);
  network_.add_empty(fraction, to);
  for (const StateId begin : {whole, fraction}) add_words({"E", "e"}, begin, exponent);
  network_.add_empty(exponent, exponent_digits);
  add_words({"+", "-"}, exponent, exponent_digits);
  network_.add_call(exponent_digits, digits(kExponentDigitsMax), to);
}

RuleId SchemaWriter::character() {
  if (character_) return *character_;
  character_ = network_.add_rule();
  const Rule rule = network_.rule(*character_);
  add_code_point(network_, rule.entry, json_unescaped(), Spelling::plain, rule.exit);
  const StateId escape = network_.add_state();
  network_.add_text(rule.entry, "\\", escape);
  add_words({"\"", "\\", "/", "b", "f", "n", "r", "t"}, escape, rule.exit);
  // \uXXXX, but for the halves of surrogate pairs: D800 to DFFF.
  const StateId u = network_.add_state();
  network_.add_text(escape, "u", u);
  const auto hexadecimal = [&](StateId from, StateId to) {
    network_.add_bytes(from, '0', '9', to);
    network_.add_bytes(from, 'A', 'F', to);
    network_.add_bytes(from, 'a', 'f', to);
  };
  const StateId d = network_.add_state();
  const StateId second = network_.add_state();
  const StateId third = network_.add_state();
  const StateId fourth = network_.add_state();
  for (const auto& [low, high] : {std::pair{'0', '9'}, {'A', 'C'}, {'E', 'F'}, {'a', 'c'}, {'e', 'f'}}) {
    network_.add_bytes(u, static_cast<std::uint8_t>(low), static_cast<std::uint8_t>(high), second);
  }
  add_words({"D", "d"}, u, d);
  network_.add_bytes(d, '0', '7', third);
  hexadecimal(second, third);
  hexadecimal(third, fourth);
  hexadecimal(fourth, rule.exit);
  return *character_;
}

// One blank, or a line break and an indent.
RuleId SchemaWriter::blank() {
  if (blank_) return *blank_;
  blank_ = network_.add_rule();
  const Rule rule = network_.rule(*blank_);
  network_.add_empty(rule.entry, rule.exit);
  network_.add_text(rule.entry, " ", rule.exit);
  StateId at = network_.add_state();
  network_.add_text(rule.entry, "\n", at);
  for (std::uint32_t i = 0; i < kIndentMax; ++i) {
    network_.add_empty(at, rule.exit);
    const StateId next = network_.add_state();
    network_.add_text(at, " ", next);
    at = next;
  }
  network_.add_empty(at, rule.exit);
  return *blank_;
}

RuleId SchemaWriter::any_value() {
  if (any_value_) return *any_value_;
  any_value_ = network_.add_rule();
  const Rule rule = network_.rule(*any_value_);
  const Place place{"#", rule.entry, rule.exit};
  add_words({"false", "null", "true"}, rule.entry, rule.exit);
  add_plain_number(false, rule.entry, rule.exit);
  const JsonTree anything{JsonKind::object};
  add_string(anything, place);
  add_array(anything, place);
  add_object(anything, place);
  return *any_value_;
}

// One of the words, shared beginnings once.
void SchemaWriter::add_words(std::vector<std::string> words, StateId from, StateId to) {
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  struct Group {
    StateId state;
    std::size_t begin, end, at;
  };
  std::vector<Group> open{{from, 0, words.size(), 0}};
  while (!open.empty() && !network_.over_limit()) {
    Group group = open.back();
    open.pop_back();
    if (words[group.begin].size() == group.at) {
      network_.add_empty(group.state, to);
      ++group.begin;
    }
    while (group.begin < group.end) {
      const char byte = words[group.begin][group.at];
      std::size_t end = group.begin;
      while (end < group.end && words[end][group.at] == byte) ++end;
      const bool last = end == group.begin + 1 && words[group.begin].size() == group.at + 1;
      const StateId next = last ? to : network_.add_state();
      network_.add_bytes(group.state, static_cast<std::uint8_t>(byte), static_cast<std::uint8_t>(byte), next);
      if (!last) open.push_back({next, group.begin, end, group.at + 1});
      group.begin = end;
    }
  }
}

}  // namespace orch::grammar
