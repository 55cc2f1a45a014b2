// The disk under an orchestratord of the simulator: what is durable outlives the process. It plays orchestratord's
// journal shell: transactions in order, each durable before it is answered, some slow, some refused; a process may die
// after a transaction is durable and before it hears of it. What is read between them is what is durable by then.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "orchestratord/core/effects.h"
#include "sim/world.h"

namespace orch::sim {

class SimJournal {
 public:
  SimJournal(World& world, Node& node) : world_(world), node_(node) {}

  // `answer` runs on the node as it lives now.
  void write(const gateway::JournalWrite& write, std::function<void(const gateway::Event&)> answer);
  void read(const gateway::ReadJournal& wanted, std::function<void(const gateway::Event&)> answer);
  gateway::Recovered recover() const;
  // A new life has opened the file: what an earlier one had not brought to the disk by now never gets there.
  void process_died() {
    free_at_ = {};
    opened_life_ = node_.life;
  }
  bool has(JobId job) const { return rows_.contains(job); }

 private:
  struct Row {
    gateway::RecoveredJob job;
    std::map<std::uint64_t, std::shared_ptr<const gateway::StreamEvent>> tokens;  // by event id
    std::uint64_t order = 0;
    Instant admitted;
    Instant ended;
  };
  gateway::JournalRead portion(const gateway::ReadJournal& wanted) const;
  void apply(const std::vector<gateway::JournalRecord>& records);
  void take(const gateway::AdmitRecord& record);
  void take(const gateway::DispatchRecord& record);
  void take(const gateway::TokensRecord& record);
  void take(const gateway::AboardRecord& record);
  void take(const gateway::ManagersRecord& record) { managers_ = record.managers; }
  void take(const gateway::EndRecord& record);
  void take(const gateway::EraseRecord& record);
  void take(const gateway::ProbeRecord&) {}

  World& world_;
  Node& node_;
  std::map<JobId, Row> rows_;
  std::vector<gateway::LeasingManager> managers_;
  std::uint64_t last_order_ = 0;
  std::uint64_t opened_life_ = 0;
  std::uint64_t cut_life_ = 0;  // of the process: its later transactions are lost
  Instant free_at_;             // transactions are answered in order
};

}  // namespace orch::sim
