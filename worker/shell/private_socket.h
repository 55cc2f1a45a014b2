// Purpose: makes sure that a unix socket can be bound and that only this user can reach it. gRPC would silently take
// the path over from a live process. Threads: any; blocks for file system calls only.
#pragma once

#include <string>

#include "common/base/result.h"

namespace orch::worker {

// Makes the folder (mode 0700) when it is missing, refuses one that others can enter, refuses a path somebody listens
// on and removes a dead one. The error is a sentence.
Status<std::string> prepare_private_socket(const std::string& path);

}  // namespace orch::worker
