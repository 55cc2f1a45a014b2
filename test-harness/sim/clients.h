// The clients of the simulator: a seeded workload, and the one judge of what it gets back. Every delivered event is
// compared with what the script must say at that place, so a token of a closed attempt, a gap, a repetition, a second
// terminal or anything after it is seen wherever it surfaces (ORCH-2002, ORCH-3017, ORCH-3026, L10, J2).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "orchestratord/core/effects.h"
#include "sim/sim_gateway.h"
#include "sim/world.h"

namespace orch::sim {

struct WorkloadTotals {
  std::uint64_t submitted = 0;
  std::uint64_t admitted = 0;
  std::uint64_t refused = 0;
  std::uint64_t ended_well = 0;
  std::uint64_t ended_in_error = 0;
  std::uint64_t retried = 0;
  std::uint64_t preempted = 0;
  std::uint64_t lost_with_gateway = 0;
  std::uint64_t taken_over = 0;
  std::map<std::string, std::uint64_t> errors;  // by code
};

class Clients {
 public:
  Clients(World& world, PoisonWatch& poisons, std::uint32_t max_tokens)
      : world_(world), poisons_(poisons), max_tokens_(max_tokens) {}

  void set_gateways(std::vector<SimGateway*> gateways) { gateways_ = std::move(gateways); }
  // Submits one job to this gateway and plays its client. `plain`: no surprises, for the probe at the end; `steady`:
  // nor any difference that would keep it from a replica.
  enum class Manners : std::uint8_t { any, plain, steady };
  std::optional<JobId> submit(std::size_t gateway, const std::string& model, Manners manners);
  // Sees to it that a few jobs of this tenant always wait there.
  void keep_waiting(std::size_t gateway, const std::string& model, const std::string& tenant);
  void receive(std::size_t gateway, const gateway::Effect& effect);
  void gateway_crashed(std::size_t gateway);
  void gateway_drained(std::size_t gateway);  // before it stops: nothing of it may be left

  // With all quiet: every admitted job of a living gateway has ended, every request was answered. Empty: well.
  std::string check_rest() const;
  bool ended_well(JobId job) const;
  bool was_refused(JobId job) const;
  const WorkloadTotals& totals() const { return totals_; }

 private:
  // What one client has seen of one job.
  struct View {
    std::uint64_t last_id = 0;
    std::uint32_t token_events = 0;
    std::size_t text = 0;  // bytes of the script seen
    bool terminal = false;
  };
  struct Reader {
    JobId job;
    View view;
    bool open = false;
    bool closed = false;
    bool left = false;  // what is still sent to it falls on the floor
    Duration pace;      // of a slow one: from one event to the next; 0: takes everything at once
    std::uint32_t unread = 0;
  };
  struct Case {  // one job
    std::size_t gateway = 0;
    std::uint64_t boot = 0;
    Attachment attachment = Attachment::task;
    RequestId request;
    std::optional<ReaderId> reader;  // the last one opened
    std::string tenant;
    std::string session;                  // empty: none
    std::optional<gateway::Submit> body;  // of its request, not sent yet
    bool plain = false;
    bool followed = false;  // its answer is long, and several readers come, one after the other
    bool answered = false;
    bool admitted = false;
    bool lost = false;       // its gateway died and may forget it, or it was never sent whole
    bool journaled = false;  // its gateway may not
    bool crossed = false;    // it has outlived a life of its gateway
    bool ended_on_disk = false;
    std::uint32_t ends = 0;
    bool well = false;
    std::string script;
  };

  void on(std::size_t gateway, const gateway::AdmissionReply& reply);
  void on(const gateway::Deliver& deliver);
  void on(const gateway::AwaitReader& await);
  void on(const gateway::NotedEnded& ended);
  void behave(JobId id);
  void on(const gateway::HeadReply& reply);
  void send_body(JobId id);
  void drop(JobId id);
  void refused(JobId id, const gateway::Failure& failure);
  void send_elsewhere(std::size_t gateway, const std::string& model, const std::string& prompt);
  void open(JobId id, std::optional<std::uint64_t> last_event_id, const View& view);
  void leave(JobId id);
  void leave(ReaderId reader, bool overflowed);
  Reader& new_reader(ReaderId id, JobId job);
  void read_slowly(ReaderId id);
  void cancel(JobId id);
  void end_session(JobId id);
  void outlive(JobId id, Case& each);
  Case* alive(JobId id);
  void fault(const std::string& what, JobId job);

  World& world_;
  PoisonWatch& poisons_;
  std::uint32_t max_tokens_;
  std::vector<SimGateway*> gateways_;
  std::map<JobId, Case> cases_;
  std::map<RequestId, JobId> heads_;  // not answered yet
  std::map<RequestId, JobId> requests_;
  std::map<RequestId, JobId> cancels_;       // not answered yet
  std::map<RequestId, JobId> session_ends_;  // likewise
  std::map<ReaderId, Reader> readers_;
  WorkloadTotals totals_;
  std::uint64_t next_ = 1;
  std::string steady_tenant_;  // of the steady job that is submitted
  std::string poison_;         // the prompt of the next one, when somebody else has sent it before
};

}  // namespace orch::sim
