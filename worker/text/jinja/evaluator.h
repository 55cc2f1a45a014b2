// Runs a parsed template over a context, within a budget.
#pragma once

#include "common/base/result.h"
#include "worker/text/jinja/ast.h"
#include "worker/text/jinja/budget.h"

namespace orch::worker::jinja {

Result<Text, TemplateError> render(const Body& body, const Map& context, const Limits& limits = {});

}  // namespace orch::worker::jinja
