#include "worker/text/chat_template.h"

#include <algorithm>
#include <array>

#include "worker/text/jinja/evaluator.h"

namespace orch::worker {

namespace {

std::string in_words(const jinja::TemplateError& error) {
  return "tokenizer.chat_template" + (error.line > 0 ? " line " + std::to_string(error.line) : std::string()) + ": " +
         error.message;
}

// Probe conversations: every role pattern a client can send up to this many messages.
constexpr std::size_t kProbeMessages = 4;
constexpr std::array<std::string_view, 3> kRoles = {"system", "user", "assistant"};

// Bytes that no probe may make a template treat specially: markup, quotes, non-ASCII, white space inside. Long enough
// that a template which writes the content twice is seen.
constexpr std::string_view kProbeContent =
    "a<b> & \"c\" 'd'\\ \n\t\xC3\xA9 {{ e }} {% f %} 0123456789 0123456789 0123456789 z";

struct Probe {
  std::size_t messages = 0;
  std::size_t overhead = 0;  // rendered bytes without content bytes
};

}  // namespace

Result<ChatTemplate, std::string> ChatTemplate::create(std::string_view source, SpecialTexts special) {
  auto tokens = jinja::tokenize(source);
  if (!tokens.ok()) return Err{in_words(tokens.error())};
  auto body = jinja::parse(std::move(tokens.value()));
  if (!body.ok()) return Err{in_words(body.error())};
  return ChatTemplate(std::make_shared<const jinja::Body>(std::move(body.value())), std::move(special));
}

Result<std::vector<TextSegment>, std::string> ChatTemplate::render(
    std::span<const std::pair<std::string, std::string>> messages, const jinja::Limits& limits) const {
  using jinja::Value;
  jinja::List list;
  list.reserve(messages.size());
  for (const auto& [role, content] : messages) {
    jinja::Map message;
    message.set("role", Value::text(jinja::Text::from_user(role)));
    message.set("content", Value::text(jinja::Text::from_user(content)));
    list.push_back(Value::map(std::move(message)));
  }
  jinja::Map context;
  context.set("messages", Value::list(std::move(list)));
  context.set("add_generation_prompt", Value::boolean(true));
  context.set("bos_token", Value::trusted(special_.bos));
  context.set("eos_token", Value::trusted(special_.eos));
  context.set("tools", Value::none());
  context.set("documents", Value::none());
  auto rendered = jinja::render(*body_, context, limits);
  if (!rendered.ok()) return Err{in_words(rendered.error())};
  std::vector<TextSegment> segments;
  const jinja::Text& text = rendered.value();
  for (std::size_t from = 0; from < text.size();) {
    const std::size_t end = std::min(text.mask.find(text.mask[from] == 0 ? '\1' : '\0', from), text.size());
    segments.push_back({text.bytes.substr(from, end - from), text.mask[from] == 0});
    from = end;
  }
  return segments;
}

std::optional<TemplateBounds> ChatTemplate::bounds() const {
  std::vector<Probe> probes;
  const auto overhead_of = [this](const ChatMessages& messages) -> std::optional<std::int64_t> {
    const auto rendered = render(messages);
    if (!rendered.ok()) return std::nullopt;
    std::int64_t overhead = 0;
    for (const TextSegment& segment : rendered.value()) overhead += static_cast<std::int64_t>(segment.text.size());
    for (const auto& [role, content] : messages) overhead -= static_cast<std::int64_t>(content.size());
    return overhead;
  };
  for (std::size_t count = 1; count <= kProbeMessages; ++count) {
    std::size_t patterns = 1;
    for (std::size_t i = 0; i < count; ++i) patterns *= kRoles.size();
    for (std::size_t pattern = 0; pattern < patterns; ++pattern) {
      ChatMessages empty;
      ChatMessages filled;
      std::size_t rest = pattern;
      for (std::size_t i = 0; i < count; ++i, rest /= kRoles.size()) {
        empty.emplace_back(kRoles[rest % kRoles.size()], "x");
        filled.emplace_back(kRoles[rest % kRoles.size()], kProbeContent);
      }
      const auto small = overhead_of(empty);
      const auto large = overhead_of(filled);
      if (!small || !large) continue;  // the template refuses this order of roles
      if (*large > *small) return std::nullopt;
      probes.push_back({count, static_cast<std::size_t>(std::max<std::int64_t>(*small, 0))});
    }
  }
  if (probes.empty()) return std::nullopt;
  // The largest overhead of each message count; a step from one to the next is what a message can cost.
  std::array<std::size_t, kProbeMessages + 1> largest{};
  for (const Probe& probe : probes) largest[probe.messages] = std::max(largest[probe.messages], probe.overhead);
  std::size_t per_message = 0;
  for (std::size_t count = 2; count <= kProbeMessages; ++count) {
    if (largest[count] > largest[count - 1]) per_message = std::max(per_message, largest[count] - largest[count - 1]);
  }
  std::size_t fixed = 0;
  for (const Probe& probe : probes) {
    const std::size_t messages_part = probe.messages * per_message;
    fixed = std::max(fixed, probe.overhead > messages_part ? probe.overhead - messages_part : 0);
  }
  // Margin for roles with longer names than the probes', and for BOS. A bound that is too high only costs an exact
  // count.
  constexpr std::size_t kMargin = 16;
  return TemplateBounds{static_cast<std::uint32_t>(fixed + kMargin), static_cast<std::uint32_t>(per_message + kMargin)};
}

}  // namespace orch::worker
