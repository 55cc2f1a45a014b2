// Purpose: journal records as bytes and back. A format version leads every value; what does not decode whole is
// refused. Pure.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "orchestratord/core/journal_records.h"

namespace orch::gateway::journal_codec {

using TokenEvents = std::vector<std::shared_ptr<const StreamEvent>>;

std::string encode_id(const Uuid& id);
std::optional<Uuid> decode_id(std::string_view bytes);

// Without the payload when `spec.store` is false (J7).
std::string encode_admit(const AdmitRecord& record);
std::optional<AdmitRecord> decode_admit(std::string_view bytes);

std::string encode_dispatch(const DispatchRecord& record);
std::optional<DispatchRecord> decode_dispatch(std::string_view bytes, JobId job);

std::string encode_aboard(const AboardRecord& record);
std::optional<AboardRecord> decode_aboard(std::string_view bytes, JobId job);

std::string encode_managers(const std::vector<LeasingManager>& managers);
std::optional<std::vector<LeasingManager>> decode_managers(std::string_view bytes);

std::string encode_tokens(const TokenEvents& events);
// Appended to `out`; false: nothing was.
bool decode_tokens(std::string_view bytes, TokenEvents& out);

// End or error.
std::string encode_terminal(const StreamEvent& event);
std::shared_ptr<const StreamEvent> decode_terminal(std::string_view bytes);

std::string encode_started(const StartedEvent& event);
std::optional<StartedEvent> decode_started(std::string_view bytes);

}  // namespace orch::gateway::journal_codec
