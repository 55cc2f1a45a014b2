#include "cli/doctor.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <thread>

#include "cli/api_client.h"
#include "cli/model_store.h"
#include "cli/process.h"
#include "cli/up.h"

namespace orch::cli {
namespace {

constexpr long kTimeoutMs = 2000;
constexpr double kGiB = 1024.0 * 1024 * 1024;
constexpr double kFreeGiBMin = 1;

// Prints one line per finding and remembers whether one was bad.
class Report {
 public:
  void good(const std::string& what, const std::string& value) { line(' ', what, value); }
  void bad(const std::string& what, const std::string& value) {
    line('!', what, value);
    any_bad_ = true;
  }
  bool any_bad() const { return any_bad_; }

 private:
  static void line(char mark, const std::string& what, const std::string& value) {
    std::printf("%c %-10s %s\n", mark, what.c_str(), value.c_str());
  }
  bool any_bad_ = false;
};

std::string gib(double bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f GiB", bytes / kGiB);
  return text;
}

std::string memory() {
  std::ifstream in("/proc/meminfo");
  std::string key;
  double total = 0;
  double available = 0;
  double kib = 0;
  std::string unit;
  while (in >> key >> kib) {
    std::getline(in, unit);
    if (key == "MemTotal:") total = kib * 1024;
    if (key == "MemAvailable:") available = kib * 1024;
  }
  return gib(available) + " free of " + gib(total);
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

void for_each_line(const std::string& text, const auto& use) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    if (end > at) use(text.substr(at, end - at));
    at = end + 1;
  }
}

void report_programs(const ClusterOptions& options, Report& report) {
  for (const char* name : {"orchestratord", "pool-managerd", "workerd", "adapterd"}) {
    const std::string path = options.binary_dir + "/" + name;
    if (::access(path.c_str(), X_OK) == 0) {
      report.good("program", path);
    } else {
      report.bad("program", path + " is missing: build it with `./llama-orch up`");
    }
  }
}

void report_devices(const ClusterOptions& options, Report& report) {
  const auto listed = capture({options.binary_dir + "/workerd", "--list-devices"});
  if (!listed.ok()) return report.bad("device", listed.error());
  if (listed->exit_code != 0) return report.bad("device", "workerd --list-devices: " + first_line(listed->output));
  bool gpu = false;
  for_each_line(listed->output, [&](std::string line) {
    for (std::size_t tab = line.find('\t'); tab != std::string::npos; tab = line.find('\t', tab))
      line.replace(tab, 1, " | ");
    gpu = gpu || (line.starts_with("vulkan") && line.ends_with("usable"));
    report.good("device", line);
  });
  if (!gpu) report.good("device", "no usable GPU: the CPU serves");
}

std::string fit_of(const ClusterOptions& options, const ModelFile& model, bool& fits) {
  const auto told = capture({options.binary_dir + "/workerd", "--model", model.path, "--model-name", model.name,
                             "--slots", std::to_string(options.slots), "--device", options.device, "--estimate"});
  fits = told.ok() && told->exit_code == 0;
  return told.ok() ? first_line(told->output) : told.error();
}

bool report_models(const ClusterOptions& options, Report& report) {
  const auto models = list_models(options.models_dir);
  for (const ModelFile& model : models) {
    bool fits = false;
    const std::string fit = fit_of(options, model, fits);
    const std::string text = model.name + ": " + fit;
    if (fits) {
      report.good("model", text);
    } else {
      report.bad("model", text);
    }
    report.good("", model.digest.empty() ? "no digest beside " + model.path : model.digest);
  }
  return !models.empty();
}

void report_cluster(const ClusterOptions& options, Report& report) {
  const ClusterFiles files(options.state_dir);
  if (!PidFile::owner(files.supervisor_pid)) {
    report.good("cluster", "not running");
    const auto reply = http_get("http://" + options.http_listen + "/livez", kTimeoutMs);
    if (reply.ok()) report.bad("port", options.http_listen + " is taken by another server");
    return;
  }
  for (const std::string& line : restart_lines(files)) report.bad("daemon", line);
  const auto ready = http_get(base_url(options) + "/readyz", kTimeoutMs);
  if (ready.ok() && ready->status == 200) return report.good("cluster", "ready at " + base_url(options));
  report.bad("cluster", "running, not ready: " + (ready.ok() ? first_line(ready->body) : ready.error()));
}

}  // namespace

int run_doctor(const ClusterOptions& options) {
  Report report;
  report.good("cores", std::to_string(std::thread::hardware_concurrency()));
  report.good("memory", memory());
  struct statvfs disk{};
  const std::string where = ::access(options.models_dir.c_str(), F_OK) == 0 ? options.models_dir : "/";
  if (::statvfs(where.c_str(), &disk) == 0) {
    const double free = static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize);
    const std::string text = gib(free) + " free at " + where;
    if (free / kGiB < kFreeGiBMin) {
      report.bad("disk", text);
    } else {
      report.good("disk", text);
    }
  }
  report_programs(options, report);
  report_devices(options, report);
  if (!report_models(options, report)) report.good("model", "none in " + options.models_dir);
  report_cluster(options, report);
  return report.any_bad() ? 1 : 0;
}

int run_models(const ClusterOptions& options) {
  Report report;
  if (!report_models(options, report)) std::printf("no models in %s\n", options.models_dir.c_str());
  return report.any_bad() ? 1 : 0;
}

}  // namespace orch::cli
