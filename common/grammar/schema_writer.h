// JSON Schema (2020-12, the declared subset of .specs/structured-output.md) into a network whose texts are JSON
// documents that satisfy it. Every keyword is either obeyed or refused by name: nothing is ignored but annotations.
//
// One use: add_root() once. Work is bounded by the schema's size, the limits of the network and those of limits.h.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/grammar/expression.h"
#include "common/grammar/grammar_error.h"
#include "common/grammar/json_tree.h"
#include "common/grammar/network.h"
#include "common/grammar/number_range.h"

namespace orch::grammar {

// A set of JSON types.
enum JsonTypes : std::uint8_t {
  kNoType = 0,
  kNull = 1,
  kBoolean = 2,
  kInteger = 4,
  kFraction = 8,  // numbers that are no integers
  kString = 16,
  kArray = 32,
  kObject = 64,
  kNumber = kInteger | kFraction,
  kAnyType = 127,
};

std::uint8_t type_of_value(const JsonTree& value);

class SchemaWriter {
 public:
  explicit SchemaWriter(const JsonTree& root) : root_(root), writer_(network_) {}

  Result<Network, GrammarError> write();

 private:
  // Where a schema stands in the document and in the network.
  struct Place {
    std::string path;  // JSON pointer, "#" at the root
    StateId from = 0;
    StateId to = 0;
    Place at(std::string_view name) const;
  };
  struct Member {
    std::string name;
    const JsonTree* schema = nullptr;  // null: any value
    std::string path;
    bool required = false;
  };
  struct Items {
    std::vector<const JsonTree*> first;  // prefixItems
    const JsonTree* rest = nullptr;      // items; null: any value
    std::string path;                    // of the array's schema
    std::uint32_t min = 0;
    std::uint32_t max = kUnbounded;
  };
  // What oneOf can tell of an alternative without solving it.
  struct Shape {
    std::uint8_t types = kAnyType;
    std::optional<std::set<std::string>> values;           // all it can be
    std::map<std::string, std::set<std::string>> markers;  // required members and all that they can be
  };

  // Remembers the first failure; whatever is called afterwards does nothing.
  void fail(const std::string& path, std::string message);
  bool failed();

  void add(const JsonTree& schema, const Place& place);
  bool check_keywords(const JsonTree& schema, const Place& place);
  bool stands_alone(const JsonTree& schema, std::string_view keyword, const Place& place, bool beside_type);
  std::uint8_t types_of(const JsonTree& schema, const std::string& path);
  void add_types(const JsonTree& schema, std::uint8_t types, const Place& place);
  void add_alternatives(const JsonTree& list, std::string_view keyword, const Place& place);
  void add_values(const JsonTree& schema, const Place& place);
  void add_reference(const JsonTree& reference, const Place& place);
  const JsonTree* resolve(std::string_view pointer) const;
  std::optional<std::uint32_t> count(const JsonTree& schema, std::string_view keyword, const Place& place);

  void add_string(const JsonTree& schema, const Place& place);
  void add_pattern(const JsonTree& pattern, const Place& place);
  void add_quoted(const Expression& body, const Place& place);
  void add_number(const JsonTree& schema, bool integer, const Place& place);
  std::optional<NumberBound> bound(const JsonTree& schema, bool is_low, bool integer, const Place& place);
  void add_plain_number(bool integer, StateId from, StateId to);

  void add_array(const JsonTree& schema, const Place& place);
  Items items_of(const JsonTree& schema, const Place& place);
  void add_items(const Items& items, const Place& place);
  void add_object(const JsonTree& schema, const Place& place);
  std::vector<Member> members_of(const JsonTree& schema, const Place& place);
  void add_members(const std::vector<Member>& members, bool open, const Member& others, const Place& place);
  void add_other_name(const std::vector<Member>& members, StateId from, StateId to);
  void add_schema_or_any(const JsonTree* schema, const Place& place);

  bool evidently_apart(const Shape& a, const Shape& b);
  Shape shape_of(const JsonTree& schema, int depth);

  RuleId any_value();
  RuleId character();
  RuleId blank();
  RuleId digits(int max);
  void add_words(std::vector<std::string> words, StateId from, StateId to);

  const JsonTree& root_;
  Network network_;
  ExpressionWriter writer_;
  std::optional<GrammarError> error_;
  std::map<std::string, RuleId, std::less<>> references_;
  std::vector<std::string> pending_;  // references whose rules have no body yet
  std::optional<RuleId> any_value_;
  std::optional<RuleId> character_;
  std::optional<RuleId> blank_;
  std::map<int, RuleId> digits_;
  std::size_t disjoint_steps_ = 0;
};

}  // namespace orch::grammar
