#include "common/runtime/grpc_end.h"

#include <thread>

namespace orch::runtime {

void shutdown_while_turning(EventLoop& loop, GrpcServer& server, Duration grace) {
  bool over = false;  // this thread's alone
  std::thread closer([&] {
    server.shutdown(grace);
    loop.post([&] {
      over = true;
      loop.stop();
    });
  });
  while (!over) loop.run();
  closer.join();
}

}  // namespace orch::runtime
