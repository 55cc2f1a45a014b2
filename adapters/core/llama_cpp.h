// The HTTP API of llama.cpp's llama-server (OC-ADAPT-5001, 5010, 5011). Pure.
#pragma once

#include "adapters/core/dialect.h"

namespace orch::adapter {

class LlamaCppDialect final : public Dialect {
 public:
  std::string engine() const override { return "llamacpp"; }
  std::string sampler_profile_version() const override { return "llamacpp-map-1"; }
  Result<std::unique_ptr<Conversation>, EngineFailure> generate(const GenerationRequest& request) const override;
  std::unique_ptr<Conversation> count(const EnginePrompt& prompt) const override;
  std::vector<HttpRequest> probes() const override;
  EngineView read_probes(const std::vector<HttpReply>& replies) const override;
  HttpRequest slots_probe() const override;
  std::optional<std::uint32_t> busy_slots(const HttpReply& reply) const override;
};

}  // namespace orch::adapter
