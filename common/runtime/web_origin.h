// Purpose: requests that a page in somebody's browser can send to this host, told from those of programs
// (OC-CTRL-2075). Pure.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "common/runtime/http_message.h"

namespace orch::runtime {

// A page can post to any address, but not this content type without asking first, and no server of ours says yes.
bool says_json(const HttpRequest& request);

// Whether a page can have reached this host under a name of its own: `authority` (of the header Host, with or without a
// port) is neither an address nor `localhost` nor below it nor one of `known`. Without the header no browser asks.
bool may_have_been_led_here(std::string_view authority, std::span<const std::string> known);

// The browser says that a page sends this, and the page is not certainly one of this host: its origin is another one,
// or a name, which another name server may have led here. GET and HEAD change nothing and always pass.
bool comes_from_a_foreign_page(const HttpRequest& request);

}  // namespace orch::runtime
