// The generation engine of workerd: a tokenizer, a chat template and a backend behind the GenerationEngine port.
//
// Threads: one engine thread loads the model, then runs steps; it alone touches the backend and the batch, and it makes
// every sink call. submit(), cancel(), info(), counters() and count_tokens() may be called from any thread and only
// exchange data with it under a mutex. Tokenizing and rendering happen in the caller of submit() and count_tokens(), so
// that a long prompt never delays a step. Cancel and deadlines take effect between steps.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "worker/core/engine_port.h"
#include "worker/core/generation_batch.h"
#include "worker/core/score_job.h"
#include "worker/grammar/constraint_mask.h"
#include "worker/shell/model_texts.h"
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
    // Called at the top of the engine thread (priority); may be empty.
    std::function<void()> on_thread_start;
  };

  NativeEngine(Options options, Loader loader);
  ~NativeEngine() override;  // ends every job with CANCELED and joins the thread
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
  struct Submission {
    SequenceRequest request;
    std::shared_ptr<GenerationSink> sink;  // one of the two
    std::shared_ptr<EmbedSink> embed_sink;
    std::optional<EngineFailure> refusal;
  };
  struct ScoreSubmission {
    std::optional<ScoreJob> job;  // none: refused
    DispatchId id;
    std::shared_ptr<ScoreSink> sink;
    EngineFailure refusal;
  };
  struct Mail {
    std::vector<Submission> submissions;
    std::vector<ScoreSubmission> scores;
    std::vector<DispatchId> cancels;
    bool empty() const { return submissions.empty() && scores.empty() && cancels.empty(); }
  };
  // What callers of any thread may read once the model is loaded.
  struct Loaded {
    ModelTexts texts;
    std::optional<Pooling> pooling;
  };

  // Compiles it, or finds it compiled: in the caller's thread, so that a large schema never delays a step.
  Result<std::shared_ptr<const TokenMask>, EngineFailure> mask_of(const grammar::Constraint& constraint,
                                                                  std::uint32_t tokens_max);
  Result<ScoreJob, EngineFailure> make_score_job(ScoreRequest request) const;
  std::optional<Loaded> loaded() const;
  void post(Submission submission);

  void run();
  bool load();
  std::optional<EngineFailure> self_test(NativeModel& model);
  void serve();
  bool take_mail(Mail& mail);
  static void refuse(const Submission& submission, const EngineFailure& why);
  void admit(Submission submission);
  void admit(ScoreSubmission submission);
  void run_step();
  void conclude();
  void deliver();
  bool deliver_embedding(BatchEvent& event);
  bool knows(const DispatchId& id) const;
  void publish_counters();
  EngineFailure failure_of(const BackendFault& fault) const;
  void fail(EngineFailure failure);
  void refuse_rest();

  Options options_;
  Loader loader_;

  mutable std::mutex mutex_;  // guards the block below
  std::condition_variable mail_;
  Mail letters_;
  bool stopping_ = false;
  EngineInfo info_;
  EngineCounters counters_;
  Loaded loaded_;

  std::mutex constraints_mutex_;  // guards the store; what it hands out is used on the engine thread alone
  std::unique_ptr<ConstraintStore> constraints_;

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
