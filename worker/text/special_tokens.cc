#include "worker/text/special_tokens.h"

#include <algorithm>
#include <utility>

namespace orch::worker {

namespace {

std::size_t first_two(std::string_view text, std::size_t at) {
  return static_cast<unsigned char>(text[at]) * std::size_t{256} + static_cast<unsigned char>(text[at + 1]);
}

std::vector<TextFragment> with_rest(std::size_t text_bytes, const std::vector<TextFragment>& tokens) {
  std::vector<TextFragment> out;
  std::size_t done = 0;
  for (const TextFragment& token : tokens) {
    if (token.start > done) out.push_back({done, token.start - done, std::nullopt});
    out.push_back(token);
    done = token.start + token.bytes;
  }
  if (done < text_bytes || out.empty()) out.push_back({done, text_bytes - done, std::nullopt});
  return out;
}

}  // namespace

void SpecialTokens::add(const std::string& text, std::uint32_t id, bool needs_permission) {
  Entry& entry = by_length_[text.size()][text];
  std::optional<std::uint32_t>& place = needs_permission ? entry.control : entry.free;
  if (!place) place = id;
  if (text.size() == 1)
    single_.set(static_cast<unsigned char>(text[0]));
  else
    beginnings_.set(first_two(text, 0));
}

// Where one may begin.
std::vector<std::size_t> SpecialTokens::places(std::string_view text) const {
  std::vector<std::size_t> out;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const bool one = single_.test(static_cast<unsigned char>(text[at]));
    if (one || (at + 1 < text.size() && beginnings_.test(first_two(text, at)))) out.push_back(at);
  }
  return out;
}

std::optional<std::uint32_t> SpecialTokens::token_of(const Entry& entry, const std::vector<bool>& permitted,
                                                     std::size_t start, std::size_t bytes) {
  if (!entry.control || (entry.free && *entry.free < *entry.control)) return entry.free;
  for (std::size_t i = start; i < start + bytes; ++i) {
    if (!permitted[i]) return entry.free;
  }
  return entry.control;
}

std::vector<TextFragment> SpecialTokens::cut(std::string_view text, const std::vector<bool>& permitted) const {
  std::vector<std::size_t> open = places(text);
  std::vector<bool> taken(open.empty() ? 0 : text.size(), false);
  std::vector<TextFragment> tokens;
  std::vector<Match> matches;
  for (const auto& [bytes, entries] : by_length_) {
    // What is taken is at least as long as this: it cannot lie between the ends.
    const auto is_free = [&taken, length = bytes](std::size_t at) { return !taken[at] && !taken[at + length - 1]; };
    matches.clear();
    for (const std::size_t at : open) {
      if (at + bytes > text.size()) break;
      if (!is_free(at)) continue;
      const auto found = entries.find(text.substr(at, bytes));
      if (found == entries.end()) continue;
      if (const auto id = token_of(found->second, permitted, at, bytes)) matches.push_back({*id, at});
    }
    std::sort(matches.begin(), matches.end(),
              [](const Match& a, const Match& b) { return std::pair(a.id, a.start) < std::pair(b.id, b.start); });
    for (const Match& match : matches) {
      if (!is_free(match.start)) continue;
      std::fill_n(taken.begin() + static_cast<std::ptrdiff_t>(match.start), bytes, true);
      tokens.push_back({match.start, bytes, match.id});
    }
    if (!matches.empty()) std::erase_if(open, [&taken](std::size_t at) { return taken[at]; });
  }
  std::sort(tokens.begin(), tokens.end(),
            [](const TextFragment& a, const TextFragment& b) { return a.start < b.start; });
  return with_rest(text.size(), tokens);
}

}  // namespace orch::worker
