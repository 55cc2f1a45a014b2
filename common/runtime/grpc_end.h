// The end of a gRPC server whose calls are answered by a loop. Only .cc files of shells include this.
#pragma once

#include "common/base/time.h"
#include "common/runtime/event_loop.h"
#include "common/runtime/grpc_setup.h"

namespace orch::runtime {

// The server's end waits for every call, so the calling thread turns the loop that answers them meanwhile. Whatever
// stops the loop, it is turned until the server is gone.
void shutdown_while_turning(EventLoop& loop, GrpcServer& server, Duration grace);

}  // namespace orch::runtime
