// What a client wants the text to be: `response_format` of the chat route, `constraint` of the task route and of gRPC
// Submit. Refused here, before admission, with the path of the keyword (OC-GRAMMAR-1032, OC-GRAMMAR-1033). Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/grammar/constraint.h"
#include "orchestratord/core/job_spec.h"
#include "orchestratord/shell/json_fields.h"

namespace orch::gateway {

// `body` is the text that `fields` was parsed from: the order of a schema's properties counts, and documents lose it.
void read_response_format(JsonFields& fields, std::string_view body, JobPayload& payload);
void read_constraint(JsonFields& fields, std::string_view body, JobPayload& payload);

// `field`: the path of the constraint in the request.
Status<Failure> check_constraint(const grammar::Constraint& constraint, const std::string& field);

// The text of member `name` of the object that valid JSON `text` is; of repeated members the last. nullopt: there is
// none under this spelling.
std::optional<std::string_view> member_text(std::string_view text, std::string_view name);

}  // namespace orch::gateway
