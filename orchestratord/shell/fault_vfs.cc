#include "orchestratord/shell/fault_vfs.h"

#include <sqlite3.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "common/base/prng.h"

namespace orch::gateway::testing {
namespace {

struct File {
  sqlite3_file base;
  FaultVfs* faults;
  FaultVfs::Image* image;
  sqlite3_file* real() { return reinterpret_cast<sqlite3_file*>(this + 1); }
};

File* of(sqlite3_file* file) { return reinterpret_cast<File*>(file); }

int close(sqlite3_file* file) { return of(file)->real()->pMethods->xClose(of(file)->real()); }
int read(sqlite3_file* file, void* out, int size, sqlite3_int64 at) {
  return of(file)->real()->pMethods->xRead(of(file)->real(), out, size, at);
}
int write(sqlite3_file* file, const void* bytes, int size, sqlite3_int64 at) {
  if (const int code = of(file)->faults->next_operation()) return code;
  of(file)->image->since.push_back({at, std::string(static_cast<const char*>(bytes), static_cast<std::size_t>(size))});
  return of(file)->real()->pMethods->xWrite(of(file)->real(), bytes, size, at);
}
int truncate(sqlite3_file* file, sqlite3_int64 size) {
  if (const int code = of(file)->faults->next_operation()) return code;
  of(file)->image->since.push_back({size, {}, true});
  return of(file)->real()->pMethods->xTruncate(of(file)->real(), size);
}
void apply(std::string& content, const FaultVfs::Change& change, std::size_t bytes) {
  const auto at = static_cast<std::size_t>(change.at);
  if (change.truncate) {
    content.resize(std::min(content.size(), at));
    return;
  }
  if (content.size() < at + bytes) content.resize(at + bytes);
  content.replace(at, bytes, change.bytes, 0, bytes);
}
int sync(sqlite3_file* file, int) {
  File* self = of(file);
  ++self->faults->syncs;
  if (self->faults->on_sync) self->faults->on_sync();
  if (const int code = self->faults->next_operation()) return code;
  for (const FaultVfs::Change& change : self->image->since) apply(self->image->synced, change, change.bytes.size());
  self->image->since.clear();
  return SQLITE_OK;  // no power is cut in earnest: the model is what a test looks at
}
int size(sqlite3_file* file, sqlite3_int64* out) {
  return of(file)->real()->pMethods->xFileSize(of(file)->real(), out);
}
int lock(sqlite3_file* file, int kind) { return of(file)->real()->pMethods->xLock(of(file)->real(), kind); }
int unlock(sqlite3_file* file, int kind) { return of(file)->real()->pMethods->xUnlock(of(file)->real(), kind); }
int reserved(sqlite3_file* file, int* out) {
  return of(file)->real()->pMethods->xCheckReservedLock(of(file)->real(), out);
}
int control(sqlite3_file* file, int op, void* argument) {
  return of(file)->real()->pMethods->xFileControl(of(file)->real(), op, argument);
}
int sector(sqlite3_file*) { return 4096; }
int characteristics(sqlite3_file*) { return SQLITE_IOCAP_POWERSAFE_OVERWRITE; }

const sqlite3_io_methods kMethods = {.iVersion = 1,
                                     .xClose = close,
                                     .xRead = read,
                                     .xWrite = write,
                                     .xTruncate = truncate,
                                     .xSync = sync,
                                     .xFileSize = size,
                                     .xLock = lock,
                                     .xUnlock = unlock,
                                     .xCheckReservedLock = reserved,
                                     .xFileControl = control,
                                     .xSectorSize = sector,
                                     .xDeviceCharacteristics = characteristics,
                                     .xShmMap = nullptr,
                                     .xShmLock = nullptr,
                                     .xShmBarrier = nullptr,
                                     .xShmUnmap = nullptr,
                                     .xFetch = nullptr,
                                     .xUnfetch = nullptr};

sqlite3_vfs* below() { return sqlite3_vfs_find(nullptr); }

std::string base_name(const char* path) {
  const std::string text = path == nullptr ? "temporary" : path;
  return text.substr(text.rfind('/') + 1);
}

int open(sqlite3_vfs* vfs, const char* path, sqlite3_file* file, int flags, int* out_flags) {
  auto* faults = static_cast<FaultVfs*>(vfs->pAppData);
  file->pMethods = nullptr;
  if (faults->refuse_open) return SQLITE_CANTOPEN;
  const int code = below()->xOpen(below(), path, of(file)->real(), flags, out_flags);
  if (code != SQLITE_OK) return code;
  of(file)->faults = faults;
  of(file)->image = &faults->files[base_name(path)];
  file->pMethods = &kMethods;
  return SQLITE_OK;
}
int remove(sqlite3_vfs* vfs, const char* path, int sync_directory) {
  auto* faults = static_cast<FaultVfs*>(vfs->pAppData);
  if (const int code = faults->next_operation()) return code;
  faults->files.erase(base_name(path));
  return below()->xDelete(below(), path, sync_directory);
}

}  // namespace

FaultVfs::FaultVfs() : vfs_(new sqlite3_vfs(*below())) {
  vfs_->szOsFile = static_cast<int>(sizeof(File)) + below()->szOsFile;
  vfs_->zName = kName;
  vfs_->pAppData = this;
  vfs_->pNext = nullptr;
  vfs_->xOpen = open;
  vfs_->xDelete = remove;
  sqlite3_vfs_register(vfs_, 0);
}

FaultVfs::~FaultVfs() {
  sqlite3_vfs_unregister(vfs_);
  delete vfs_;
}

int FaultVfs::next_operation() {
  const int now = ++operations;
  if (cut_at >= 0 && now >= cut_at) return SQLITE_IOERR;
  if (refuse_all || now == fail_at) return failure;
  return SQLITE_OK;
}

void FaultVfs::leave_behind(const std::string& directory, Kept kept, std::uint64_t seed) const {
  Prng rng(seed);
  for (const auto& [name, image] : files) {
    std::string content = image.synced;
    for (std::size_t i = 0; i < image.since.size() && kept != Kept::nothing; ++i) {
      const Change& change = image.since[i];
      std::size_t bytes = change.bytes.size();
      if (kept == Kept::a_part) {
        if (rng.below(3) == 0) continue;                                         // lost or overtaken
        if (i + 1 == image.since.size() && bytes > 0) bytes = rng.below(bytes);  // torn
      }
      apply(content, change, bytes);
    }
    std::ofstream(directory + "/" + name, std::ios::binary) << content;
  }
}

}  // namespace orch::gateway::testing
