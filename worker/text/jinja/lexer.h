// Template source to tokens, with the white-space control that chat templates are written for: trim_blocks and
// lstrip_blocks on, one trailing newline dropped.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace orch::worker::jinja {

struct TemplateError {
  std::string message;
  std::uint32_t line = 0;  // of the template, from 1; 0: not tied to a line
};

enum class TokenType : std::uint8_t {
  data,  // text between tags
  output_begin,
  output_end,  // {{ }}
  block_begin,
  block_end,  // {% %}
  name,
  string,
  integer,
  real,
  op,
  end,
};

struct Token {
  TokenType type = TokenType::end;
  std::string text;  // decoded for strings
  std::uint32_t line = 1;
};

inline constexpr std::size_t kTemplateBytesMax = 1u << 18;
inline constexpr std::size_t kTagTokensMax = 4096;

Result<std::vector<Token>, TemplateError> tokenize(std::string_view source);

}  // namespace orch::worker::jinja
