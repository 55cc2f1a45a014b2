#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "pool-managerd/test/manager_process.h"

namespace orch::pool {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using ::testing::HasSubstr;

TEST(PoolManagerd, OC_POOL_3001_serves_a_ready_replica_and_says_what_it_is) {
  ManagerProcess manager;
  manager.start();
  const json replica = manager.wait_ready();
  EXPECT_EQ(replica["replica_id"], "p-0");
  EXPECT_EQ(replica["model_digest"], ManagerProcess::kDigest);
  EXPECT_EQ(replica["slots"], 2);
  EXPECT_EQ(replica["inc"], "1.1");
  EXPECT_EQ(replica["last_error"], "");
  EXPECT_THAT(*manager.http_get("/readyz"), HasSubstr("200 OK"));
  EXPECT_THAT(*manager.http_get("/livez"), HasSubstr("200 OK"));
  EXPECT_THAT(*manager.http_get("/nothing"), HasSubstr("404"));
  EXPECT_THAT(*manager.http_get("/metrics"), HasSubstr("pool_ready{engine=\"native\",pool_id=\"p\"} 1"));
}

TEST(PoolManagerd, OC_DEVICE_1011_devices_that_a_worker_passed_over_stand_in_the_list_of_replicas) {
  ManagerProcess manager;
  manager.script("skips");
  manager.start();
  const json replica = manager.wait_ready();
  EXPECT_EQ(replica["accelerator"], "cpu");
  EXPECT_EQ(replica["skipped_devices"], "a card: no compute queue");
}

TEST(PoolManagerd, OC_ENGINE_1006_a_context_that_was_shrunk_stands_beside_the_one_that_was_wanted) {
  ManagerProcess manager;
  manager.script("shrinks");
  manager.start();
  const json replica = manager.wait_ready();
  EXPECT_EQ(replica["ctx_max"], 4096);
  EXPECT_EQ(replica["ctx_wanted"], 8192);
}

TEST(PoolManagerd, OC_NUM_1305_values_that_saturate_are_a_metric_and_a_number_of_the_replica) {
  ManagerProcess manager;
  manager.script("saturates");
  manager.start();
  manager.wait_replica([](const json& r) { return r.value("kv_saturated_total", 0) == 5; });
  const std::string labels = R"(engine="native",engine_version="fake",pool_id="p",replica_id="p-0")";
  for (int look = 0; look < 2; ++look) {  // a look counts nothing
    EXPECT_THAT(*manager.http_get("/metrics"), HasSubstr("kv_saturated_total{" + labels + "} 5\n"));
  }
}

struct Fault {
  const char* name;
  const char* code;
  const char* text;
  const char* state;
};
class InjectedFault : public ::testing::TestWithParam<Fault> {};

TEST_P(InjectedFault, ORCH_3049_is_named_in_last_error) {
  ManagerProcess manager;
  manager.script(GetParam().name);
  manager.config["restart"] = {{"initial_ms", 3600000}, {"max_ms", 3600000}};
  manager.start();
  const json replica = manager.wait_replica([](const json& r) { return r["last_error"] != ""; });
  EXPECT_EQ(replica["last_error_code"], GetParam().code);
  EXPECT_THAT(replica["last_error"].get<std::string>(), HasSubstr(GetParam().text));
  EXPECT_FALSE(replica["was_ready"].get<bool>());
  EXPECT_THAT(*manager.http_get("/readyz"), HasSubstr("503"));
  const json gone = manager.wait_replica([](const json& r) { return r["pid"] == 0; });
  EXPECT_EQ(gone["state"], GetParam().state) << "and the worker does not stay behind";
}

INSTANTIATE_TEST_SUITE_P(Gates, InjectedFault,
                         ::testing::Values(Fault{"digest", "digest_mismatch", "digest: the model is sha256:1111",
                                                 "failed"},
                                           Fault{"load", "load_failed", "load: tensor blk.0 is cut off", "backoff"},
                                           Fault{"decode", "decode_failed", "self-check decode", "backoff"},
                                           Fault{"cancel", "cancel_kept_slot", "self-check cancel", "backoff"},
                                           Fault{"counters", "counters_stuck", "self-check counters", "backoff"},
                                           Fault{"exit65", "exited", "code 65: model: bad magic", "failed"}),
                         [](const auto& test) { return std::string(test.param.name); });

struct Scheduled {
  const char* fault;
  const char* reason;
};
class RestartMetric : public ::testing::TestWithParam<Scheduled> {};

TEST_P(RestartMetric, OC_POOL_3030_ORCH_3003_names_what_ended_the_worker) {
  ManagerProcess manager;
  manager.script(GetParam().fault);
  manager.config["restart"] = {{"initial_ms", 3600000}, {"max_ms", 3600000}};
  manager.start();
  manager.wait_replica([](const json& r) { return r["state"] == "backoff"; });
  EXPECT_THAT(*manager.http_get("/metrics"), HasSubstr(std::string("restart_scheduled_total{pool_id=\"p\",reason=\"") +
                                                       GetParam().reason + "\",replica_id=\"p-0\"} 1"));
}

INSTANTIATE_TEST_SUITE_P(Outcomes, RestartMetric,
                         ::testing::Values(Scheduled{"load", "load_failed"}, Scheduled{"exit71", "out_of_memory"},
                                           Scheduled{"exit69", "device_lost"}, Scheduled{"decode", "self_check"}),
                         [](const auto& test) { return std::string(test.param.fault); });

TEST(PoolManagerd, OC_POOL_3011_kill_9_of_the_worker_is_answered_by_a_new_incarnation) {
  ManagerProcess manager;
  manager.start();
  const json first = manager.wait_ready();
  ::kill(first["pid"].get<int>(), SIGKILL);
  const json second = manager.wait_replica([](const json& r) { return r["state"] == "ready" && r["restarts"] == 1; });
  EXPECT_NE(second["pid"], first["pid"]);
  EXPECT_EQ(second["inc"], "1.2");
  EXPECT_THAT(*manager.http_get("/metrics"),
              HasSubstr("restart_scheduled_total{pool_id=\"p\",reason=\"signal\",replica_id=\"p-0\"} 1"));
}

TEST(PoolManagerd, L6_a_frozen_worker_is_killed_after_ttl_and_replaced) {
  ManagerProcess manager;
  manager.config["lease"] = {{"ttl_ms", 500}};
  manager.start();
  const json first = manager.wait_ready();
  ::kill(first["pid"].get<int>(), SIGSTOP);
  manager.wait_replica([](const json& r) { return r["state"] == "ready" && r["restarts"] == 1; });
  EXPECT_FALSE(is_alive(first["pid"].get<int>()));
  EXPECT_THAT(manager.errors(), HasSubstr("\"failure\":\"silent\""));
}

TEST(PoolManagerd, L8_a_worker_outlives_its_manager_by_its_orphan_grace_and_no_longer) {
  ManagerProcess manager;
  manager.start();
  const int worker = manager.wait_ready()["pid"].get<int>();
  ASSERT_TRUE(is_alive(worker));
  const auto killed = std::chrono::steady_clock::now();
  manager.signal(SIGKILL);
  EXPECT_TRUE(wait_until([&] { return !is_alive(worker); }, milliseconds(5000)));
  EXPECT_GE(std::chrono::steady_clock::now() - killed, milliseconds(900));
  manager.wait();
}

TEST(PoolManagerd, L8_L1_the_next_start_adopts_the_worker_with_a_higher_boot_and_the_same_identity) {
  ManagerProcess manager;
  manager.config["lease"]["orphan_grace_ms"] = 20000;
  manager.start();
  const json first = manager.wait_ready();
  EXPECT_EQ(first["inc"], "1.1");
  std::string identity;
  std::ifstream(manager.state_dir() + "/uuid") >> identity;
  manager.signal(SIGKILL);
  manager.wait();
  manager.start();
  const json second = manager.wait_ready();
  EXPECT_EQ(second["pid"], first["pid"]);
  EXPECT_EQ(second["inc"], "1.1");
  std::string again;
  std::ifstream(manager.state_dir() + "/uuid") >> again;
  EXPECT_EQ(again, identity);
  EXPECT_THAT(manager.errors(), HasSubstr("\"boot\":2"));
  // Its end is seen without being its parent.
  ::kill(second["pid"].get<int>(), SIGKILL);
  const json third =
      manager.wait_replica([&](const json& r) { return r["state"] == "ready" && r["pid"] != second["pid"]; });
  EXPECT_EQ(third["inc"], "2.1");
  manager.signal(SIGTERM);
  EXPECT_EQ(manager.wait(), 0) << manager.errors();
}

TEST(PoolManagerd, L8_a_worker_of_another_configuration_is_replaced) {
  ManagerProcess manager;
  manager.config["lease"]["orphan_grace_ms"] = 20000;
  manager.start();
  const int first = manager.wait_ready()["pid"].get<int>();
  manager.signal(SIGKILL);
  manager.wait();
  manager.config["pools"][0]["ctx"] = 1024;
  manager.start();
  EXPECT_EQ(manager.wait_ready()["inc"], "2.1");
  EXPECT_FALSE(is_alive(first));
  EXPECT_THAT(manager.errors(), HasSubstr("worker_not_adopted"));
}

TEST(PoolManagerd, stop_a_second_SIGTERM_stops_at_once) {
  ManagerProcess manager;
  manager.script("no_term");
  manager.config["stop"] = {{"term_grace_ms", 60000}};
  manager.start();
  const int worker = manager.wait_ready()["pid"].get<int>();
  manager.signal(SIGTERM);
  EXPECT_TRUE(wait_until([&] { return manager.errors().find("shutdown_begun") != std::string::npos; }));
  const auto asked = std::chrono::steady_clock::now();
  manager.signal(SIGTERM);
  EXPECT_EQ(manager.wait(), 0) << manager.errors();
  EXPECT_LT(std::chrono::steady_clock::now() - asked, milliseconds(10000));
  EXPECT_FALSE(is_alive(worker));
}

TEST(PoolManagerd, stop_SIGTERM_ends_the_worker_and_exits_0) {
  ManagerProcess manager;
  manager.start();
  const int worker = manager.wait_ready()["pid"].get<int>();
  manager.signal(SIGTERM);
  EXPECT_EQ(manager.wait(), 0) << manager.errors();
  EXPECT_FALSE(is_alive(worker));
  EXPECT_THAT(manager.errors(), HasSubstr("\"exit_code\":0"));
}

TEST(PoolManagerd, stop_a_worker_that_ignores_SIGTERM_is_killed_after_the_grace) {
  ManagerProcess manager;
  manager.script("no_term");
  manager.start();
  const int worker = manager.wait_ready()["pid"].get<int>();
  manager.signal(SIGTERM);
  EXPECT_EQ(manager.wait(), 0);
  EXPECT_FALSE(is_alive(worker));
  EXPECT_THAT(manager.errors(), HasSubstr("\"signal\":\"KILL\""));
}

TEST(PoolManagerd, worker_output_is_kept_in_its_log) {
  ManagerProcess manager;
  manager.start();
  manager.wait_ready();
  std::stringstream text;
  text << std::ifstream(manager.state_dir() + "/logs/p-0-1.1.log").rdbuf();
  EXPECT_THAT(text.str(), HasSubstr("hello from the fake worker"));
}

TEST(PoolManagerd, OC_POOL_3048_what_a_worker_writes_between_two_managers_is_not_lost) {
  ManagerProcess manager;
  manager.config["lease"]["orphan_grace_ms"] = 20000;
  manager.script("chatter");
  manager.start();
  const json first = manager.wait_ready();
  const auto lines = [&] {
    std::vector<int> numbers;
    std::ifstream log(manager.state_dir() + "/logs/p-0-1.1.log");
    for (std::string line; std::getline(log, line);) {
      if (line.starts_with("line ")) numbers.push_back(std::atoi(line.c_str() + 5));
    }
    return numbers;
  };
  EXPECT_TRUE(wait_until([&] { return lines().size() > 5; }));
  manager.signal(SIGKILL);
  manager.wait();
  const std::size_t before = lines().size();
  const auto until = std::chrono::steady_clock::now() + milliseconds(200);
  EXPECT_TRUE(wait_until([&] { return std::chrono::steady_clock::now() > until; }));
  EXPECT_EQ(lines().size(), before) << "nobody reads";
  manager.start();
  EXPECT_EQ(manager.wait_ready()["pid"], first["pid"]);
  EXPECT_TRUE(wait_until([&] { return lines().size() > before + 60; }));
  const std::vector<int> all = lines();
  for (std::size_t i = 0; i < all.size(); ++i)
    ASSERT_EQ(all[i], static_cast<int>(i)) << "a line is missing or came twice";
}

TEST(PoolManagerd, worker_gets_no_descriptor_and_no_variable_it_does_not_need) {
  ::setenv("POOL_TEST_SECRET", "x", 1);
  ManagerProcess manager;
  // Somebody's descriptor that the manager inherits, open over exec.
  const int opened = ::open((manager.dir() + "/leaked").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  const int leaked = ::fcntl(opened, F_DUPFD, 50);  // not one of the numbers that the worker's own take
  ::close(opened);
  ASSERT_GE(leaked, 0);
  manager.start();
  ::unsetenv("POOL_TEST_SECRET");
  ::close(leaked);
  const std::string proc = "/proc/" + std::to_string(manager.wait_ready()["pid"].get<int>());
  std::stringstream environment;
  environment << std::ifstream(proc + "/environ").rdbuf();
  EXPECT_THAT(environment.str(), HasSubstr("PATH=")) << "it was read";
  EXPECT_THAT(environment.str(), Not(HasSubstr("POOL_TEST_SECRET")));
  std::error_code error;
  for (const auto& fd : std::filesystem::directory_iterator(proc + "/fd")) {
    const std::string target = std::filesystem::read_symlink(fd.path(), error).string();
    EXPECT_THAT(target, Not(HasSubstr(manager.state_dir() + "/lock"))) << "the state lock must end with the manager";
    EXPECT_THAT(target, Not(HasSubstr("/leaked")));
  }
}

TEST(PoolManagerd, start_a_second_manager_on_the_same_state_is_refused) {
  ManagerProcess manager;
  manager.start();
  manager.wait_ready();
  ManagerProcess second;
  second.config["state_dir"] = manager.state_dir();
  second.start();
  EXPECT_EQ(second.wait(), 74);
  EXPECT_THAT(second.errors(), HasSubstr("in use"));
}

TEST(PoolManagerd, start_a_taken_port_is_named) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(fd, 1), 0);
  ASSERT_EQ(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::string port = std::to_string(ntohs(address.sin_port));
  ManagerProcess manager;
  manager.config["http"] = {{"listen", "127.0.0.1:" + port}};
  manager.start();
  EXPECT_EQ(manager.wait(), 74);
  EXPECT_THAT(manager.errors(), HasSubstr(port));
  ::close(fd);
}

TEST(PoolManagerd, start_a_state_dir_too_long_for_a_socket_names_the_limit) {
  ManagerProcess manager;
  manager.config["state_dir"] = manager.dir() + "/" + std::string(90, 'x');
  manager.start();
  EXPECT_EQ(manager.wait(), 78);
  EXPECT_THAT(manager.errors(), HasSubstr("limit of a unix socket is 107"));
}

TEST(PoolManagerd, start_an_unknown_key_is_named) {
  ManagerProcess manager;
  manager.config["speed"] = "fast";
  manager.start();
  EXPECT_EQ(manager.wait(), 78);
  EXPECT_THAT(manager.errors(), HasSubstr("speed"));
}

TEST(PoolManagerd, start_a_missing_program_fails_for_good_and_is_named) {
  ManagerProcess manager;
  manager.config["pools"][0]["engine"] = "mock";  // no adapterd lies beside the program under test
  manager.start();
  const json replica = manager.wait_replica([](const json& r) { return r["state"] == "failed"; });
  EXPECT_EQ(replica["last_error_code"], "spawn_failed");
  EXPECT_THAT(replica["last_error"].get<std::string>(), HasSubstr("adapterd: No such file or directory"));
}

}  // namespace
}  // namespace orch::pool
