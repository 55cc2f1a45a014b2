// Arrays and objects.
#include <algorithm>
#include <utility>

#include "common/grammar/limits.h"
#include "common/grammar/schema_writer.h"

namespace orch::grammar {

void SchemaWriter::add_schema_or_any(const JsonTree* schema, const Place& place) {
  if (schema == nullptr) return network_.add_call(place.from, any_value(), place.to);
  add(*schema, place);
}

SchemaWriter::Items SchemaWriter::items_of(const JsonTree& schema, const Place& place) {
  Items out;
  out.path = place.path;
  out.min = count(schema, "minItems", place).value_or(0);
  out.max = count(schema, "maxItems", place).value_or(kUnbounded);
  if (const JsonTree* first = schema.member("prefixItems")) {
    if (!first->is(JsonKind::array) || first->items.empty() || first->items.size() > kPropertiesMax) {
      fail(place.at("prefixItems").path, "a list of 1 to " + std::to_string(kPropertiesMax) + " schemas belongs here");
    }
    for (const JsonTree& item : first->items) out.first.push_back(&item);
  }
  out.rest = schema.member("items");
  const auto explicit_items = static_cast<std::uint32_t>(out.first.size());
  const bool closed = out.rest != nullptr && out.rest->is(JsonKind::boolean) && !out.rest->truth;
  if (out.rest != nullptr && out.rest->is(JsonKind::array)) {
    fail(place.at("items").path, "items is one schema; a list of them is prefixItems");
  }
  // Without `items` anything may follow; nothing is made that was not asked for.
  if (closed || (out.rest == nullptr && explicit_items >= std::max(out.min, 1U))) {
    out.max = std::min(out.max, explicit_items);
  }
  if (out.max < out.min) fail(place.path, "no array has that many items");
  return out;
}

void SchemaWriter::add_array(const JsonTree& schema, const Place& place) {
  const Items items = items_of(schema, place);
  if (!error_) add_items(items, place);
}

// before(i) -> value i -> behind(i + 1), and from behind a comma to before the next, or the end once there are enough.
void SchemaWriter::add_items(const Items& items, const Place& place) {
  const auto first = static_cast<std::uint32_t>(items.first.size());
  const std::uint32_t written = items.max == kUnbounded ? std::max(items.min, first + 1) : items.max;
  const StateId open = network_.add_state();
  const StateId close = network_.add_state();
  const StateId end = network_.add_state();
  const StateId begin = network_.add_state();
  StateId before = network_.add_state();
  network_.add_text(place.from, "[", open);
  network_.add_call(open, blank(), begin);
  network_.add_empty(begin, before);
  network_.add_call(close, blank(), end);
  network_.add_text(end, "]", place.to);
  if (items.min == 0) network_.add_text(begin, "]", place.to);
  std::optional<RuleId> rest;
  if (written > first + 1) {  // an item that is written more than once is a rule
    rest = network_.add_rule();
    const Rule rule = network_.rule(*rest);
    add_schema_or_any(items.rest, {items.path + "/items", rule.entry, rule.exit});
  }
  for (std::uint32_t i = 0; i < written && !failed(); ++i) {
    const StateId behind = network_.add_state();
    if (i < first) {
      add(*items.first[i], {items.path + "/prefixItems/" + std::to_string(i), before, behind});
    } else if (rest) {
      network_.add_call(before, *rest, behind);
    } else {
      add_schema_or_any(items.rest, {items.path + "/items", before, behind});
    }
    if (i + 1 >= items.min) network_.add_empty(behind, close);
    const bool is_last = i + 1 == written;
    if (is_last && items.max != kUnbounded) break;
    const StateId comma = network_.add_state();
    const StateId next = is_last ? before : network_.add_state();
    network_.add_text(behind, ",", comma);
    network_.add_call(comma, blank(), next);
    before = next;
  }
}

std::vector<SchemaWriter::Member> SchemaWriter::members_of(const JsonTree& schema, const Place& place) {
  std::vector<Member> out;
  if (const JsonTree* properties = schema.member("properties")) {
    if (!properties->is(JsonKind::object)) fail(place.at("properties").path, "an object of schemas belongs here");
    for (const JsonTree& property : properties->items) {
      out.push_back({property.name, &property, place.at("properties").at(property.name).path, false});
    }
  }
  const JsonTree* others = schema.member("additionalProperties");
  const bool closed = others != nullptr && others->is(JsonKind::boolean) && !others->truth;
  if (const JsonTree* required = schema.member("required")) {
    const Place at = place.at("required");
    if (!required->is(JsonKind::array)) fail(at.path, "a list of names belongs here");
    for (const JsonTree& name : required->items) {
      if (!name.is(JsonKind::string)) fail(at.path, "a list of names belongs here");
      const auto known = std::find_if(out.begin(), out.end(), [&](const Member& m) { return m.name == name.text; });
      if (known != out.end()) {
        known->required = true;
      } else if (closed) {
        fail(at.path, "a required member is no property, and no other is allowed: " + name.text);
      } else {
        out.push_back({name.text, others, place.at("additionalProperties").path, true});
      }
      if (error_) break;
    }
  }
  if (out.size() > kPropertiesMax) {
    fail(place.path, std::to_string(out.size()) + " properties; at most " + std::to_string(kPropertiesMax));
  }
  return out;
}

void SchemaWriter::add_object(const JsonTree& schema, const Place& place) {
  const std::vector<Member> members = members_of(schema, place);
  if (error_) return;
  const JsonTree* others = schema.member("additionalProperties");
  // Members beyond the declared ones are made where they are asked for, or where nothing is declared.
  const bool open = others == nullptr ? members.empty() : !(others->is(JsonKind::boolean) && !others->truth);
  add_members(members, open, {"", others, place.at("additionalProperties").path, false}, place);
}

// Two rows of states over the members in their order: first[i], nothing written yet, and after[i], something was.
// Both lead to name[i]; a member that is not required can be passed by.
void SchemaWriter::add_members(const std::vector<Member>& members, bool open, const Member& others,
                               const Place& place) {
  const StateId brace = network_.add_state();
  const StateId close = network_.add_state();
  StateId first = network_.add_state();
  StateId after = network_.add_state();
  network_.add_text(place.from, "{", brace);
  network_.add_call(brace, blank(), first);
  network_.add_text(close, "}", place.to);
  const auto begin_member = [&](StateId from_first, StateId from_after) {
    const StateId name = network_.add_state();
    const StateId comma = network_.add_state();
    network_.add_empty(from_first, name);
    network_.add_text(from_after, ",", comma);
    network_.add_call(comma, blank(), name);
    return name;
  };
  const auto add_value = [&](StateId colon, const Member& member, StateId to) {
    const StateId value = network_.add_state();
    const StateId gap = network_.add_state();
    network_.add_text(colon, ":", gap);
    network_.add_text(gap, " ", value);
    network_.add_empty(gap, value);
    add_schema_or_any(member.schema, {member.path, value, to});
  };
  bool any_before = false;
  for (const Member& member : members) {
    if (failed()) return;
    const StateId name = begin_member(first, after);
    const StateId next_first = network_.add_state();
    const StateId next_after = network_.add_state();
    if (!member.required) network_.add_empty(first, next_first);
    if (!member.required) network_.add_empty(after, next_after);
    const StateId colon = network_.add_state();
    std::string quoted;
    append_json_text(quoted, member.name);
    network_.add_text(name, quoted, colon);
    add_value(colon, member, next_after);
    first = next_first;
    after = next_after;
    any_before = true;
  }
  if (open && !failed()) {
    const StateId name = begin_member(first, after);
    const StateId colon = network_.add_state();
    add_other_name(members, name, colon);
    add_value(colon, others, after);
    any_before = true;
  }
  network_.add_empty(first, close);
  if (any_before) network_.add_call(after, blank(), close);
}

// A name that no declared member has, in characters that stand for themselves, so that none can be spelled in two ways.
void SchemaWriter::add_other_name(const std::vector<Member>& members, StateId from, StateId to) {
  struct Node {
    std::map<std::uint32_t, std::size_t> next;
    bool is_name = false;
  };
  std::vector<Node> nodes(1);
  for (const Member& member : members) {
    std::size_t at = 0;
    for (std::size_t i = 0; i < member.name.size();) {
      const std::uint32_t c = next_code_point(member.name, i).value_or(0);
      const auto [child, is_new] = nodes[at].next.try_emplace(c, nodes.size());
      at = child->second;
      if (is_new) nodes.emplace_back();
    }
    nodes[at].is_name = true;
  }
  const StateId free = network_.add_state();
  writer_.add_set(free, json_unescaped(), Spelling::plain, free);
  network_.add_text(free, "\"", to);
  std::vector<StateId> states(nodes.size());
  for (StateId& state : states) state = network_.add_state();
  network_.add_text(from, "\"", states[0]);
  for (std::size_t i = 0; i < nodes.size() && !failed(); ++i) {
    std::vector<CodePointRange> taken;
    for (const auto& [c, child] : nodes[i].next) {
      taken.push_back({c, c});
      if (json_unescaped().contains(c)) writer_.add_set(states[i], {{c, c}}, Spelling::plain, states[child]);
    }
    writer_.add_set(states[i], json_unescaped().minus(CodePointSet(std::move(taken))), Spelling::plain, free);
    if (!nodes[i].is_name) network_.add_text(states[i], "\"", to);
  }
}

}  // namespace orch::grammar
