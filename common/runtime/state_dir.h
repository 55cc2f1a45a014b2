// Purpose: a service's own directory: a lock against a second process, a lasting identity, a boot counter, port files.
// DESIGN-RULES L1: `boot` is incremented and fsynced once per start, before anything else. Threads: any, after open().
// Ownership: holds the lock until destroyed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/ids.h"
#include "common/base/result.h"

namespace orch::runtime {

class StateDir {
 public:
  struct Error {
    enum class Kind : unsigned char { locked, io, corrupt };
    Kind kind = Kind::io;
    std::string message;
    int exit_code() const { return kind == Kind::locked ? 74 : 78; }
  };

  // Creates the directory (mode 0700) when it is missing.
  static Result<StateDir, Error> open(const std::string& path);
  StateDir(StateDir&& other) noexcept;
  StateDir& operator=(StateDir&&) = delete;
  ~StateDir();

  const Uuid& id() const { return id_; }
  std::uint64_t boot() const { return boot_; }
  const std::string& path() const { return path_; }

  // Replaced atomically; with `durable`, file and directory are synced.
  Status<Error> write_file(std::string_view name, std::string_view content, bool durable = false) const;
  // "<name>.port": where a listener with port 0 really is.
  Status<Error> write_port(std::string_view name, std::uint16_t port) const;
  void remove_file(std::string_view name) const;

 private:
  StateDir(std::string path, int lock_fd) : path_(std::move(path)), lock_fd_(lock_fd) {}
  std::string path_;
  int lock_fd_ = -1;
  Uuid id_;
  std::uint64_t boot_ = 0;
};

}  // namespace orch::runtime
