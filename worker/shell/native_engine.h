// The generation engine of workerd: a tokenizer, a chat template and a backend behind the GenerationEngine port.
//
// Threads: one engine thread loads the model, then runs steps; it alone touches the backend and the batch, and it makes
// every sink call. Two others prepare what is submitted: they render, tokenize and compile constraints, so that a long
// prompt delays neither a step nor the caller, who has its holder's heartbeats to read (OC-WORKER-1005). One takes what
// is short, the other the rest, each in order (OC-WORKER-1007). submit(), cancel(), info(), counters() and
// count_tokens() may be called from any thread and only exchange data with the three under a mutex; count_tokens() and
// its like compute in their caller. Cancel and deadlines take effect between steps, and on what is being prepared at
// once.
#pragma once

#include <array>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "worker/core/engine_port.h"
#include "worker/core/generation_batch.h"
#include "worker/core/score_job.h"
#include "worker/grammar/constraint_mask.h"
#include "worker/grammar/constraint_store.h"
#include "worker/shell/model_texts.h"
#include "worker/shell/preparation_lane.h"
#include "worker/shell/score_desk.h"

namespace orch::worker {

// Everything that loading yields. Immutable afterwards, the backend excepted.
struct NativeModel {
  std::unique_ptr<Backend> backend;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const ChatTemplate> chat_template;  // null: the model has none
  std::uint32_t vocabulary = 0;                       // logits of one row
  std::uint32_t embedding = 0;                        // floats of a hidden state; 0: the backend tells none
  std::optional<Pooling> pooling;                     // as the file says; none: by something that is not built
  std::string memory;                                 // what was estimated, in words
  EngineInfo info;                                    // all but ready, load_progress and load_failure
};

class NativeEngine final : public GenerationEngine {
 public:
  using Loader = std::function<Result<NativeModel, EngineFailure>(const std::function<void(float)>& progress)>;
  struct Options {
    EngineInfo initial;                 // what info() says while loading
    std::uint32_t step_rows_max = 256;  // decode rows and prompt rows of one step
    bool share_prefixes = true;
    bool speculation = false;  // no gain was measured yet
    std::function<Instant()> clock;
    // Called once on the engine thread when loading failed or the backend failed; may be empty.
    std::function<void(const EngineFailure&)> on_failure;
    // Called before it, and before any job is told, when it was the backend; may be empty.
    std::function<void(const BackendFault&)> on_fault;
    // Called at the top of each thread (priority); may be empty.
    std::function<void()> on_thread_start;
    // Called on a preparing thread before it turns to a submission, for tests; may be empty.
    std::function<void(const DispatchId&)> on_preparation;
  };

  NativeEngine(Options options, Loader loader);
  ~NativeEngine() override;  // ends every job with CANCELED and joins the threads
  NativeEngine(const NativeEngine&) = delete;
  NativeEngine& operator=(const NativeEngine&) = delete;

  EngineInfo info() const override;
  EngineCounters counters() const override;
  void submit(GenerationRequest request, std::shared_ptr<GenerationSink> sink) override;
  void cancel(const DispatchId& id) override;
  bool on_burst_over(std::function<void()> over) override {
    burst_over_ = std::move(over);
    return true;
  }
  Result<std::pair<std::uint32_t, bool>, EngineFailure> count_tokens(const EnginePrompt& prompt) override;
  Result<TokenizedText, EngineFailure> tokenize(const EnginePrompt& prompt) override;
  Result<std::string, EngineFailure> apply_template(const EnginePrompt& prompt) override;
  void score(ScoreRequest request, std::shared_ptr<ScoreSink> sink) override;
  void embed(EmbedRequest request, std::shared_ptr<EmbedSink> sink) override;

 private:
  using Sink = std::variant<std::shared_ptr<GenerationSink>, std::shared_ptr<EmbedSink>, std::shared_ptr<ScoreSink>>;
  // What becomes of a submission.
  using Prepared = std::variant<SequenceRequest, ScoreJob, EngineFailure>;
  struct Submission {
    DispatchId id;
    Sink sink;
    Prepared what;
    bool named = true;  // false: refused, since its name is another one's
  };
  struct Preparation {
    DispatchId id;
    Instant deadline;
    Sink sink;
    std::function<Prepared()> work;  // the preparing thread's
  };
  using Preparations = std::deque<std::shared_ptr<Preparation>>;
  struct Lane {
    Preparations waiting;  // the first one is under way; in all lanes as many as leases have slots
    std::condition_variable wakes;
    std::thread thread;
  };
  struct Mail {
    std::vector<Submission> submissions;
    std::vector<DispatchId> cancels;
    bool empty() const { return submissions.empty() && cancels.empty(); }
  };
  // What callers of any thread may read once the model is loaded.
  struct Loaded {
    ModelTexts texts;
    std::optional<Pooling> pooling;
    std::uint32_t context = 0;
  };

  Result<Loaded, EngineFailure> loaded() const;
  Instant deadline_of(const std::optional<Duration>& left) const;

  void begin(Preparation preparation, PreparationLane lane);
  void run_preparations(Lane& lane);
  Prepared prepare(GenerationRequest request, std::shared_ptr<TokenConstraint> kept, Instant deadline);
  Prepared prepare(const EmbedRequest& request, Instant deadline) const;
  Prepared prepare(ScoreRequest request, Instant deadline) const;
  // Null: not kept.
  std::shared_ptr<TokenConstraint> kept_constraint(const grammar::Constraint& constraint);
  // Compiles it unless it is kept.
  Result<std::shared_ptr<TokenConstraint>, EngineFailure> compiled(const grammar::Constraint& constraint);
  // mutex_ held, both. The second: when the next deadline among those that are left is.
  Preparations::iterator end_preparation(Lane& lane, Preparations::iterator preparation, EngineFailure why);
  Instant expire_preparations(Instant now);

  void run();
  bool load();
  std::optional<EngineFailure> self_test(NativeModel& model);
  void serve();
  bool take_mail(Mail& mail);
  void refuse(const Submission& submission, const EngineFailure& why);
  void admit(Submission submission);
  void admit(const DispatchId& id, SequenceRequest request, Sink sink);
  void tell_starts();
  void run_step();
  void conclude();
  void deliver();
  bool deliver_embedding(BatchEvent& event);
  void forget(const DispatchId& id);
  void publish_counters();
  EngineFailure failure_of(const BackendFault& fault) const;
  void fail(EngineFailure failure);
  void refuse_rest();

  Options options_;
  Loader loader_;

  mutable std::mutex mutex_;  // guards the block below
  std::condition_variable mail_;
  Mail letters_;
  std::array<Lane, kPreparationLanes> lanes_;
  std::set<DispatchId> open_;  // whose sinks have not been told of their end
  bool stopping_ = false;
  EngineInfo info_;
  EngineFailure refusal_;  // of a job, while the engine is not ready
  EngineCounters counters_;
  Loaded loaded_;
  ConstraintStore constraints_;  // what it hands out is used on the engine thread alone

  // Made before anybody is told that the model is loaded, then not changed. The second one is the engine thread's; the
  // others only hand it on.
  std::shared_ptr<const VocabularyTrie> vocabulary_;
  std::shared_ptr<WorkBudget> constraint_work_;

  std::function<void()> burst_over_;  // set before the first submission, which publishes it; may be empty

  // Engine thread only.
  NativeModel model_;
  std::unique_ptr<GenerationBatch> batch_;
  std::map<DispatchId, std::shared_ptr<GenerationSink>> sinks_;
  std::map<DispatchId, std::shared_ptr<EmbedSink>> embed_sinks_;
  ScoreDesk scores_;
  std::vector<BatchEvent> events_;
  std::vector<float> logits_;
  std::vector<float> hidden_;
  EngineCounters tally_;
  bool lost_ = false;

  std::thread thread_;
};

}  // namespace orch::worker
