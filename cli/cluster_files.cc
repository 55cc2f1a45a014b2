#include "cli/cluster_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

namespace orch::cli {

namespace {

constexpr std::size_t kSmallFileBytesMax = 1 << 20;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

}  // namespace

ClusterFiles::ClusterFiles(std::string dir)
    : state_dir(std::move(dir)),
      config_dir(state_dir + "/config"),
      log_dir(state_dir + "/logs"),
      orchestratord_config(config_dir + "/orchestratord.yaml"),
      pool_managerd_config(config_dir + "/pool-managerd.yaml"),
      orchestratord_state(state_dir + "/orchestratord"),
      pool_managerd_state(state_dir + "/pool"),
      supervisor_pid(state_dir + "/supervisor.pid"),
      supervisor_log(log_dir + "/supervisor.log"),
      supervisor_failure(state_dir + "/supervisor.failure"),
      supervisor_restarts(state_dir + "/supervisor.restarts"),
      http_port(orchestratord_state + "/http.port"),
      manager_http_port(pool_managerd_state + "/http.port") {}

std::string default_state_dir() {
  if (const std::string own = environment("LLAMA_ORCH_STATE"); !own.empty()) return own;
  if (const std::string xdg = environment("XDG_STATE_HOME"); !xdg.empty()) return xdg + "/llama-orch";
  const std::string home = environment("HOME");
  return (home.empty() ? std::string("/var/lib") : home + "/.local/state") + "/llama-orch";
}

std::string default_models_dir() {
  const std::string home = environment("HOME");
  std::string data = environment("LLAMA_ORCH_DATA");
  if (data.empty() && !environment("XDG_DATA_HOME").empty()) data = environment("XDG_DATA_HOME") + "/llama-orch";
  if (data.empty()) data = (home.empty() ? std::string("/var/lib") : home + "/.local/share") + "/llama-orch";
  return data + "/models";
}

std::string yaml_quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out.push_back('\\');
      out.push_back(c);
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\x%02x", static_cast<unsigned>(static_cast<unsigned char>(c)));
      out += escape;
    } else {
      out.push_back(c);
    }
  }
  return out + "\"";
}

std::string orchestratord_config_text(const ClusterOptions& options, const ClusterFiles& files) {
  std::ostringstream out;
  out << "# Written by `llama-orch up`; every key is described in .docs/config.md.\n"
      << "state_dir: " << yaml_quoted(files.orchestratord_state) << "\n"
      << "http:\n  listen: " << yaml_quoted(options.http_listen) << "\n"
      << "grpc:\n  listen: " << yaml_quoted(options.grpc_listen) << "\n"
      << "managers:\n  - endpoint: " << yaml_quoted("unix:" + files.pool_managerd_state + "/manager.sock") << "\n";
  return out.str();
}

std::string pool_managerd_config_text(const ClusterOptions& options, const ClusterFiles& files) {
  std::ostringstream out;
  out << "# Written by `llama-orch up`; every key is described in .docs/config.md.\n"
      << "state_dir: " << yaml_quoted(files.pool_managerd_state) << "\n"
      << "grpc:\n  listen: " << yaml_quoted("unix:" + files.pool_managerd_state + "/manager.sock") << "\n"
      << "http:\n  listen: \"127.0.0.1:0\"\n"
      << "pools:\n"
      << "  - id: " << yaml_quoted(options.model_name) << "\n"
      << "    engine: native\n"
      << "    model:\n"
      << "      name: " << yaml_quoted(options.model_name) << "\n"
      << "      path: " << yaml_quoted(options.model_path) << "\n"
      << (options.model_digest.empty() ? "" : "      digest: " + yaml_quoted(options.model_digest) + "\n")
      << "    slots: " << options.slots << "\n"
      << "    device: " << yaml_quoted(options.device) << "\n"
      << "    threads: " << options.threads << "\n";
  return out.str();
}

std::vector<std::string> restart_lines(const ClusterFiles& files) {
  std::vector<std::string> lines;
  const auto text = read_small_file(files.supervisor_restarts);
  std::istringstream in(text.ok() ? *text : std::string());
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

Status<std::string> write_file_atomically(const std::string& path, const std::string& text) {
  const std::string temporary = path + ".new";
  {
    std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
    out << text;
    if (!out.flush()) return Err{"cannot write " + temporary + ": " + std::strerror(errno)};
  }
  if (std::rename(temporary.c_str(), path.c_str()) != 0) {
    return Err{"cannot rename " + temporary + ": " + std::strerror(errno)};
  }
  return Ok{};
}

Status<std::string> write_cluster_files(const ClusterOptions& options, const ClusterFiles& files) {
  for (const std::string& dir :
       {files.state_dir, files.config_dir, files.log_dir, files.orchestratord_state, files.pool_managerd_state}) {
    std::error_code error;
    std::filesystem::create_directories(dir, error);
    if (error) return Err{"cannot create " + dir + ": " + error.message()};
    if (::chmod(dir.c_str(), 0700) != 0) return Err{"cannot restrict " + dir + ": " + std::strerror(errno)};
  }
  ORCH_TRY(first, write_file_atomically(files.orchestratord_config, orchestratord_config_text(options, files)));
  static_cast<void>(first);
  return write_file_atomically(files.pool_managerd_config, pool_managerd_config_text(options, files));
}

Result<std::string, std::string> read_small_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return Err{"cannot open " + path};
  std::string text(kSmallFileBytesMax + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (text.size() > kSmallFileBytesMax) return Err{path + " is larger than 1 MiB"};
  return text;
}

}  // namespace orch::cli
