// Measures the journal on the disk under DIRECTORY: CPU and wall time per admission at several group sizes.
//   journal_bench DIRECTORY
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/runtime/clock.h"
#include "orchestratord/shell/journal_sqlite.h"

namespace {

using namespace orch;
using namespace orch::gateway;

double cpu_us() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) / 1e3;
}

AdmitRecord admission(std::uint64_t n) {
  AdmitRecord record;
  record.spec.id = {{0xBE, n}};
  record.spec.model_ref = "m";
  record.spec.max_tokens = 100;
  JobPayload payload;
  payload.prompt.text = std::string(512, 'x');
  record.spec.payload = std::make_shared<const JobPayload>(std::move(payload));
  return record;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: journal_bench DIRECTORY\n", stderr);
    return 64;
  }
  JournalSqlite::Options options;
  options.path = std::string(argv[1]) + "/journal_bench.db";
  auto opened = JournalSqlite::open(options);
  if (!opened.ok()) {
    std::fprintf(stderr, "journal_bench: %s\n", opened.error().message.c_str());
    return 74;
  }
  JournalSqlite& journal = *opened.value();
  std::uint64_t next = 1;
  for (const std::size_t group : {1u, 8u, 64u, 512u}) {
    const std::size_t rounds = std::max<std::size_t>(2048 / group, 8);
    std::vector<std::vector<JournalWrite>> all(rounds);
    for (auto& writes : all) {
      for (std::size_t i = 0; i < group; ++i, ++next) writes.push_back({JournalTicket{next}, {admission(next)}});
    }
    const double cpu = cpu_us();
    const Instant begun = runtime::now();
    for (const auto& writes : all) {
      if (const auto done = journal.commit(writes); !done.ok()) {
        std::fprintf(stderr, "journal_bench: %s\n", done.error().reason.c_str());
        return 74;
      }
    }
    const double wall = static_cast<double>((runtime::now() - begun).ns) / 1e3;
    const auto admissions = static_cast<double>(rounds * group);
    std::printf("group %4zu: %7.1f us CPU and %8.1f us wall per admission, %8.0f commits/s, %9.0f admissions/s\n",
                group, (cpu_us() - cpu) / admissions, wall / admissions, static_cast<double>(rounds) / wall * 1e6,
                admissions / wall * 1e6);
  }
  return 0;
}
