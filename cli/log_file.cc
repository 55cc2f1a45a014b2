#include "cli/log_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>

namespace orch::cli {

namespace {

std::string read_end(const std::string& path) {
  constexpr std::streamoff kWindow = std::streamoff{256} << 10;
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  const std::streamoff size = std::max<std::streamoff>(0, in.tellg());
  std::string text(static_cast<std::size_t>(std::min(size, kWindow)), '\0');
  in.seekg(size - static_cast<std::streamoff>(text.size()));
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  return text;
}

// What is written meanwhile is copied too.
bool copy_newest(const std::string& from, const std::string& to, std::size_t bytes_max) {
  std::ifstream in(from, std::ios::binary | std::ios::ate);
  const std::streamoff start = in.tellg() - static_cast<std::streamoff>(bytes_max);
  in.seekg(std::max<std::streamoff>(0, start));
  std::ofstream out(to, std::ios::binary | std::ios::trunc);
  ::chmod(to.c_str(), 0600);  // OC-PLAT-1001: as private as the log; before anything is in it
  out << in.rdbuf();
  return in.good() && out.flush().good();
}

}  // namespace

std::string last_lines(const std::string& path, std::uint32_t lines) {
  const std::string text = read_end(path);
  std::size_t cut = text.size();
  for (std::uint32_t seen = 0; cut > 0; --cut) {
    if (text[cut - 1] == '\n' && cut != text.size() && ++seen == lines) break;
  }
  return text.substr(cut);
}

std::string last_line(const std::string& path) {
  std::string text = read_end(path);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  const std::size_t cut = text.rfind('\n');
  return cut == std::string::npos ? text : text.substr(cut + 1);
}

Status<std::string> bound_log(const std::string& path, std::size_t bytes_max) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error || size <= bytes_max) return Ok{};
  if (!copy_newest(path, path + ".1", bytes_max) && size <= 2 * bytes_max) return Err{"cannot write " + path + ".1"};
  if (::truncate(path.c_str(), 0) != 0) return Err{"cannot cut " + path + ": " + std::strerror(errno)};
  return Ok{};
}

}  // namespace orch::cli
