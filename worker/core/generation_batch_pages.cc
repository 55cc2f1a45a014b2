// The batch's pages: who is seated, what is found instead of computed, who gives way.
#include <algorithm>
#include <utility>

#include "worker/core/generation_batch.h"

namespace orch::worker {

// All or nothing: pages for every token so far and the next one, and one that each seated sequence can grow by, so that
// a newcomer does not push out the one before it at once.
bool GenerationBatch::seat(Run& run) {
  Sequence& sequence = run.sequence;
  PageTable& table = run.pages.table;
  if (limits_.share_prefixes) find_pages(pool_, run.pages, sequence);
  const std::uint32_t wanted = pages_for(sequence.tokens() + 1) - static_cast<std::uint32_t>(table.pages.size());
  if (wanted + seated() > pool_.pages_available() || !extend(pool_, table, sequence.tokens() + 1)) {
    free_pages(run);
    return false;
  }
  run.seated = true;
  note_found(run);
  return true;
}

// OC-ENGINE-1016: what others have filled since the last step.
void GenerationBatch::find_more(Run& run) {
  if (!limits_.share_prefixes || !find_pages(pool_, run.pages, run.sequence)) return;
  run.waited = false;
  note_found(run);
}

// A prompt token counts as found if this sequence never computed it, and once.
void GenerationBatch::note_found(Run& run) {
  const std::uint32_t known = std::min(run.sequence.fed(), run.sequence.prompt_tokens());
  if (known <= run.known_prompt) return;
  counts_.cached_prompt_tokens += known - run.known_prompt;
  run.cached_prompt += known - std::exchange(run.known_prompt, known);
}

// OC-ENGINE-1026.
bool GenerationBatch::waits(Run& run, std::uint32_t count) {
  run.waited = !run.waited && count > 0 && coming_.cover(run.pages, run.sequence, count);
  return run.waited;
}

// OC-ENGINE-1027. Behind waits(): what is filled in this step is better than its beginning.
void GenerationBatch::copy_beginning(Run& run) {
  if (!limits_.share_prefixes) return;
  const auto copy = find_beginning(pool_, run.pages, run.sequence);
  if (!copy) return;
  copies_.push_back(*copy);
  note_found(run);
}

// What the backend has written. `beginning`: of the last page too.
void GenerationBatch::publish(Run& run, bool beginning) {
  if (!run.seated || !limits_.share_prefixes) return;
  publish_full_pages(pool_, run.pages, run.sequence);
  if (beginning) publish_beginning(pool_, run.pages, run.sequence);
}

void GenerationBatch::free_pages(Run& run) {
  free_table(pool_, run.pages.table);
  run.pages.published = 0;
  run.sequence.set_fed(0);
}

void GenerationBatch::unseat(Run& run) {
  free_pages(run);
  run.seated = false;
  run.waited = false;
  ++counts_.preemptions;
}

bool GenerationBatch::preempt(const DispatchId& id) {
  const auto run = find(id);
  if (run == runs_.end() || !run->seated) return false;
  unseat(*run);
  return true;
}

// Pages for `length` tokens, at the cost of younger sequences. False: the run itself was the youngest and waits now.
bool GenerationBatch::grow(Runs::iterator run, std::uint32_t length) {
  while (!extend(pool_, run->pages.table, length)) {
    auto victim = std::prev(runs_.end());
    while (victim != run && !victim->seated) --victim;
    ORCH_CHECK(victim != run || seated() > 1);  // alone every sequence fits
    unseat(*victim);
    if (victim == run) return false;
  }
  return true;
}

}  // namespace orch::worker
