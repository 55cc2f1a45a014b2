// Purpose: the numbers of one stream to a worker (OC-WORKER-1001 to 1004): what is open, what waits to be sent, and
// what a reply means. Knows no gRPC call; a new stream is a new object. Threads: loop only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "orch/v1/worker.pb.h"
#include "orchestratord/core/effects.h"
#include "orchestratord/core/events.h"

namespace orch::gateway {

class WorkerStream {
 public:
  // Beyond it what waits is sent rather than added to: a message has a limit of eight times as much.
  static constexpr std::size_t kRequestBytesEnough = 1024 * 1024;

  // A worker takes no more at once either; far above any number of slots.
  static constexpr std::size_t kOpenMax = 4096;

  explicit WorkerStream(Holder holder) : holder_(holder) {}

  void dispatch(const Dispatch& effect);
  void cancel(DispatchId dispatch);  // of one that is over: without effect
  void beat(std::uint64_t seq);
  bool enough() const { return bytes_ >= kRequestBytesEnough; }
  // True: so many had no terminal that the worker answers no cancels; the stream is of no further use.
  bool overfull() const { return open_.size() > kOpenMax; }
  // What was gathered since the last call; none: nothing was.
  std::optional<v1::ServeRequest> take_request();
  // For messages that wait behind a write. False: both together are too much for one.
  static bool merge(v1::ServeRequest& waiting, v1::ServeRequest& more);

  // Appends the events of the reply. Error: the worker broke a rule of the stream, which is of no further use.
  Status<std::string> take(v1::ServeReply&& reply, std::vector<Event>& events);
  // Every dispatch that has had no terminal: what the stream's end breaks. Nothing is open afterwards.
  std::vector<DispatchId> take_open();

 private:
  struct Open {
    DispatchId dispatch;
    Fence fence;  // the number stands for it: a stream cannot change its worker
  };

  const Holder holder_;
  std::uint64_t last_number_ = 0;
  std::map<std::uint64_t, Open> open_;
  std::map<DispatchId, std::uint64_t> numbers_;  // of open_
  v1::ServeRequest gathered_;
  std::size_t bytes_ = 0;
  bool greeted_ = false;
  bool waits_ = false;  // gathered_ says something
};

}  // namespace orch::gateway
